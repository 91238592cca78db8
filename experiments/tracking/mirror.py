"""What a mirror is. Nothing reads from one, and no fault in one reaches the run.

A new mirror is a module here with ``start(*, subject, <settings>) -> Mirror`` and, where a setting
can be wrong, ``check(<settings>)``; its YAML in conf/tracking names ``start`` as ``_target_`` and
holds the settings.
"""

import contextlib
import importlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.config import targets
from experiments.errors import UserError
from experiments.system import log

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]

JOB_TYPES = {".tuning": "tune"}
"""What runs in a folder of this name are for; in any other they are trained to be reported."""


@dataclass(frozen=True)
class Subject:
    """What is mirrored: a run, or the report of many."""

    id: str  # the same for every attempt, so that a resumed run goes on in its mirror
    name: str
    group: str
    job_type: str  # train, tune or report
    tags: Sequence[str]
    folder: Path  # the mirror's files go below it
    identity: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[Row] = ()  # of earlier attempts; a mirror may have lost some of them


def runs_dir_of(folder: Path) -> Path:
    """Name the folder of the runs that a run, trial or report lies in."""
    return folder.parent.parent if folder.parent.name in JOB_TYPES else folder.parent


def subject_of_run(
    run_id: str,
    *,
    identity: Mapping[str, Any],
    config: Mapping[str, Any],
    folder: Path,
    rows: Sequence[Row],
) -> Subject:
    """Name, group and tag a run, so that a workspace of many can be read."""
    control = identity.get("control")
    pair = f"{identity['task']}-{identity['optimizer']}" + (
        f"-{control}_control" if control else ""
    )
    return Subject(
        id=run_id,
        name=f"{pair}-seed{identity['seed']}",
        group=f"{pair}-{identity['group_id']}",
        job_type=JOB_TYPES.get(folder.parent.name, "train"),
        tags=[str(identity[key]) for key in ("task", "model", "optimizer", "ruleset")],
        folder=folder,
        identity=identity,
        config=config,
        rows=tuple(rows),
    )


class Mirror:
    """Receives what is measured; this one forgets it (``tracking=none``)."""

    def log(self, row: Row) -> None:
        """Mirror one row of measurements, unless it is there."""

    def table(self, name: str, path: Path) -> None:
        """Mirror a table, a CSV file."""

    def figure(self, name: str, path: Path) -> None:
        """Mirror a figure, a PNG file."""

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """Mirror the end."""

    @property
    def remark(self) -> str | None:
        """What whoever starts the run should know of the mirror, in one line."""
        return None

    def outcome(self, what: str) -> str:
        """Say in one line what became of what was mirrored."""
        return "published nothing: tracking is off"


class _Contained(Mirror):
    """Another mirror, any fault of which is a warning."""

    def __init__(self, inner: Mirror) -> None:
        self._inner = inner

    def log(self, row: Row) -> None:
        with _contained("log"):
            self._inner.log(row)

    def table(self, name: str, path: Path) -> None:
        with _contained(f"take the table {name}"):
            self._inner.table(name, path)

    def figure(self, name: str, path: Path) -> None:
        with _contained(f"take the figure {name}"):
            self._inner.figure(name, path)

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        with _contained("finish"):
            self._inner.finish(summary, failed=failed)


def start(tracking: Mapping[str, Any], subject: Subject) -> Mirror:
    """Start a mirror whose faults are not contained, for who has nothing else to do."""
    function = _asked(tracking, None, default=lambda **settings: Mirror())
    mirror: Mirror = function(subject=subject, **_settings(tracking))
    return mirror


def open_mirror(tracking: Mapping[str, Any], subject: Subject) -> Mirror:
    """Start a mirror and give it the rows that were measured before.

    Args:
        tracking: The section of the config: ``_target_`` and what it takes.
        subject: What is mirrored.

    Returns:
        The mirror; an inert one where there is none or it fails to start.
    """
    mirror = Mirror()
    with _contained("start"):
        started = start(tracking, subject)
        if started.remark is not None:
            log.once(started.remark)
        mirror = _Contained(started)
    for row in subject.rows:
        mirror.log(row)
    return mirror


def mirror_settled(
    tracking: Mapping[str, Any], subject: Subject, summary: Mapping[str, Any]
) -> None:
    """Mirror a run that was over before, where something waits for its values.

    The module of a mirror has ``awaits_settled()`` if that can be.

    Args:
        tracking: The section of the config.
        subject: The run, with its rows.
        summary: Its summary.
    """
    if _asked(tracking, "awaits_settled", default=lambda: False)():
        open_mirror(tracking, subject).finish(summary, failed=False)


def check(tracking: Mapping[str, Any]) -> None:
    """Refuse settings that the mirror refuses.

    Raises:
        UserError: Names the value and what is allowed.
    """
    if tracking.get("_target_") is None:
        return
    start = targets.find("tracking", tracking["_target_"])
    taken = targets.accepted(start)
    if taken is not None and "subject" not in taken:
        raise UserError(
            f"Invalid tracking._target_: {tracking['_target_']!r}. Must start a mirror, as "
            "experiments.tracking.wandb.start does."
        )
    targets.check_arguments("tracking", tracking, start, also=())
    for key in sorted(targets.required(start) - {"subject", *tracking}):
        raise UserError(f"Missing value: tracking.{key}. Give it as +tracking.{key}=<value>.")
    _asked(tracking, "check", default=lambda **settings: None)(**_settings(tracking))


def _asked(
    tracking: Mapping[str, Any], name: str | None, *, default: Callable[..., Any]
) -> Callable[..., Any]:
    """Find the function ``name`` of the mirror's module, or the one that ``_target_`` names."""
    target = tracking.get("_target_")
    if target is None:
        return default
    module, _, function = target.rpartition(".")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name or function, default)
    return found


def _settings(tracking: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tracking.items() if key != "_target_"}


@contextlib.contextmanager
def _contained(action: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        logger.warning("tracking: could not %s (%s); the run goes on without", action, reason)
