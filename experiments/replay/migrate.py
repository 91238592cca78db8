"""Bring older records to the present schema: `python -m experiments migrate runs_dir=runs`.

Nothing is trained: what a record lacks follows from its ``config.yaml``. Measurements, results and
ids stay as they are, and a record that cannot be brought up to date stays as it is.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from experiments.config import arguments, budget, commandline, identity, origin
from experiments.config.lift import lifted
from experiments.config.recorded import read_config
from experiments.config.run_config import RunConfig
from experiments.errors import UserError
from experiments.records.schema import (
    CONFIG_FILE,
    SCHEMA,
    BrokenRecordError,
    Run,
    load_run,
    load_runs,
)
from experiments.records.store import RunFolder
from experiments.system.output import say


def migrate(run: Run) -> str | None:
    """Add protocol and origin to a record; returns why it stays as it is, or None.

    Args:
        run: A record of an older schema.

    Raises:
        OSError: If its status cannot be written; the old one is still there.
    """
    if not (run.path / CONFIG_FILE).is_file():
        return f"it has no {CONFIG_FILE}"
    try:
        known = RunConfig.of(lifted(read_config(run.path)))
        if known.run_id != run.run_id:
            return f"its {CONFIG_FILE} is that of another run"
        facts = {"protocol": identity.protocol(known), "origin": _origin(known)}
    except (AttributeError, KeyError, TypeError, ValueError, UserError):
        return f"its {CONFIG_FILE} cannot be read"
    RunFolder(run.path.parent, run.path.name).write_status(
        run.status,
        run.reason,
        identity={**run.identity, **facts},
        progress=run.progress,
        summary=run.summary,
    )
    return None


def _origin(config: RunConfig) -> dict[str, Any] | None:
    """Its origin by the files of today; None where one that it needs is gone."""
    choices = _choices(config)
    # A name is the record's, and Hydra would take it for a path.
    if any(name and name not in commandline.choices(group) for group, name in choices.items()):
        return None
    with contextlib.suppress(UserError, KeyError):
        return origin.trace(config, choices)
    return None


def _choices(config: RunConfig) -> dict[str, str | None]:
    """Find the choice of each group, by the names that the sections carry."""
    groups = ("task", "optimizer", "model", "tokenization", "schedule")
    sections = {group: getattr(config, group) for group in groups}
    named = {group: section and section.name for group, section in sections.items()}
    return {**named, "ruleset": config.ruleset, "budget": _budget(config.budget)}


def _budget(section: Mapping[str, Any]) -> str:
    """Find the file that a budget is of: the one with its table, else that of its kind."""
    table = section.get(budget.TABLE)
    for name in commandline.choices("budget"):
        content = OmegaConf.to_container(OmegaConf.load(commandline.CONF / f"budget/{name}.yaml"))
        if table and isinstance(content, dict) and content.get(budget.TABLE) == table:
            return name
    return budget.check(section)


@dataclass(frozen=True)
class MigrateOptions:
    """Where the records are."""

    runs_dir: Path = Path("runs")


def main(words: Sequence[str]) -> int:
    """Migrate every record of a folder, and say how many; returns the exit code."""
    folder = arguments.parse(words, MigrateOptions)[0].runs_dir
    if not folder.is_dir():
        raise UserError(f"Invalid runs_dir: {str(folder)!r}. Must be a folder of run records.")
    runs, broken = load_runs(folder)
    old = [run for run in runs if run.schema < SCHEMA]
    kept: dict[str, list[str]] = {}
    for run in old:
        why = _migrated(run)
        if why is not None:
            kept.setdefault(why, []).append(run.run_id)
    left = sum(map(len, kept.values()))
    count = f"{len(runs)} record{'s' * (len(runs) != 1)}"
    say(f"{count}: {len(old) - left} migrated, {left} left as they are.")
    for why, ids in kept.items():
        more = ", ..." if len(ids) > 1 else ""
        say(f"{len(ids)} left as they are: {why} ({ids[0]}{more})")
    for line in broken:
        say(line)
    return 0


def _migrated(run: Run) -> str | None:
    folder = RunFolder(run.path.parent, run.path.name)
    if folder.is_locked():
        return "another process has it"
    with folder.lock():
        try:
            # It may have been trained on, or migrated, since it was listed.
            now = load_run(run.path)
        except BrokenRecordError:
            return "it cannot be read any more"
        return migrate(now) if now.schema < SCHEMA else None
