"""The mirror to Weights & Biases. Nothing reads from it, and no fault in it reaches the run."""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from experiments.errors import UserError

logger = logging.getLogger(__name__)

MODES = ("auto", "online", "offline", "none")
_PROBE_SECONDS = 2.0
_INIT_SECONDS = 15.0


class Mirror:
    """Receives what a run measures; this one forgets it (``tracking=none``)."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Mirror one row of measurements."""

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """Mirror the end of the run."""


class WandbMirror(Mirror):
    """Mirrors to one W&B run whose id is the run's id, so that a resumed run continues it."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, row: Mapping[str, Any]) -> None:
        """Mirror one row at its own step; rows already there are ignored by the server."""
        with _contained("log"):
            self._run.log(dict(row), step=int(row["step"]))

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """Write the summary and close the W&B run."""
        with _contained("finish"):
            self._run.summary.update(dict(summary))
            self._run.finish(exit_code=int(failed))


def open_mirror(
    tracking: Mapping[str, Any],
    *,
    run_id: str,
    identity: Mapping[str, Any],
    config: Mapping[str, Any],
    folder: Path,
) -> Mirror:
    """Start the mirror of one run.

    Args:
        tracking: ``mode`` (see ``MODES``), ``project`` and ``entity``.
        run_id: Id of the run; also the id of the W&B run.
        identity: Facts that make the name, group and tags.
        config: Resolved config, mirrored as it is.
        folder: Run folder; the offline files go below it.

    Returns:
        The mirror; an inert one where W&B is off or fails to start.
    """
    mode = _resolve(tracking["mode"])
    if mode == "none":
        return Mirror()
    mirror = Mirror()
    with _contained("start"):
        # Imported here: it takes seconds, and a run without a mirror should not pay them.
        import wandb

        name = f"{identity['task']}-{identity['optimizer']}-seed{identity['seed']}"
        run = wandb.init(
            project=tracking["project"],
            entity=tracking["entity"],
            id=run_id,
            resume=None if mode == "offline" else "allow",
            name=name,
            group=f"{identity['task']}-{identity['optimizer']}-{identity['group_id']}",
            job_type="train",
            tags=[str(identity[key]) for key in ("task", "model", "optimizer", "ruleset")],
            config=dict(config),
            dir=str(folder),
            mode=mode,
            settings=wandb.Settings(
                silent=True,
                init_timeout=_INIT_SECONDS,
                console="off",
                disable_git=True,
                x_disable_stats=True,
                x_disable_meta=True,
            ),
        )
        run.define_metric("*", step_metric="step")
        mirror = WandbMirror(run)
    return mirror


def check_mode(mode: str) -> None:
    """Refuse a mode that is none of ``MODES``.

    Raises:
        UserError: Names the value and what is allowed.
    """
    if mode not in MODES:
        raise UserError(f"Invalid tracking.mode: {mode!r}. Must be one of: {', '.join(MODES)}.")


def _resolve(mode: str) -> Literal["none", "offline", "online"]:
    """Decide between online and offline without ever asking the user or waiting for the network."""
    forced = os.environ.get("WANDB_MODE")
    if mode == "none" or forced == "disabled":
        return "none"
    if mode == "offline" or forced == "offline":
        return "offline"
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    if mode == "auto" and not _logged_in(host):
        return "offline"
    if not _reachable(host):
        logger.warning("W&B at %s is not reachable: this run is mirrored offline", host)
        return "offline"
    return "online"


def _logged_in(host: str) -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return (urlsplit(host).hostname or "") in netrc.read_text(encoding="utf-8").split()
    except OSError:
        return False


def _reachable(host: str) -> bool:
    parts = urlsplit(host)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=_PROBE_SECONDS):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def _contained(action: str) -> Iterator[None]:
    """Turn any fault of the mirror into a warning."""
    try:
        yield
    except Exception as error:
        logger.warning("W&B: could not %s (%s); the run goes on without", action, error)
