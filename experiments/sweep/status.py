"""What has become of the runs in a folder: `python -m experiments status runs_dir=runs`.

``json=true``, or ``--json``, tells it to a program.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.config import arguments, run_config
from experiments.records import archive
from experiments.records.schema import Run, roots
from experiments.records.states import STATES, RunState, run_states
from experiments.records.strict_json import dumps
from experiments.system.output import plain_values, say

_TEXTS = ("ruleset", "budget", "group_id")


@dataclass(frozen=True)
class StatusOptions:
    """Where the runs are."""

    runs_dir: Path = Path("runs")
    json: bool = False


def main(words: Sequence[str]) -> int:
    """Print one line a group of seeds, and one for each run that is not done."""
    options, _ = arguments.parse(words, StatusOptions)
    folder, left_out = archive.opened(options.runs_dir)
    found = [state for place in roots(folder) for state in run_states(place)]
    if options.json:
        say(dumps(facts(found, options.runs_dir)))
        return 0
    console = Console(highlight=False, soft_wrap=True, markup=False)
    if not found:
        say(*left_out)
        lacks = "" if options.runs_dir.exists() else ", which is not there"
        say(f"no runs in {options.runs_dir}{lacks}")
        return 0
    header, *rows = plain_values(table(found))
    if console.is_terminal:
        _print_table(console, header, rows)
    else:
        say(*aligned([header, *rows]))
    say(summary(found))
    say(*remarks(found), *left_out)
    return 0


def facts(found: Sequence[RunState], runs_dir: Path) -> dict[str, Any]:
    """Give where each run stands as plain values; of what has no record the names are null."""
    names = ("task", "model", "optimizer", "control", "seed", *_TEXTS)
    rows = []
    for item in found:
        of = item.run
        identity = of.identity if of else {}
        progress = of.progress if of else {}
        rows.append(
            {
                "run_id": item.run_id,
                "state": item.state,
                "reason": item.reason,
                **{name: identity.get(name) for name in names},
                **{key: progress.get(key) for key in ("step", "total_steps", "train_seconds")},
            }
        )
    states = dict(Counter(item.state for item in found))
    return {"runs_dir": str(runs_dir), "states": states, "runs": rows}


def table(found: Iterable[RunState]) -> list[list[str]]:
    """Count the states of each group of seeds.

    Args:
        found: Runs in any order; those without a record belong to no group and are left out.

    Returns:
        A header and one row a group: what it is, how many runs it has, and how many are in each
        state that occurs at all.
    """
    groups: dict[tuple[str, ...], Counter[str]] = {}
    for item in found:
        if item.run is not None:
            facts = item.run.identity
            method = run_config.method(facts["optimizer"], facts.get("control"))
            texts = (str(facts[name]) for name in _TEXTS)
            key = (facts["task"], facts["model"], method, *texts)
            groups.setdefault(key, Counter())[item.state] += 1
    states = [state for state in STATES if any(counts[state] for counts in groups.values())]
    rows = [
        [*key, str(counts.total()), *(str(counts[state] or "-") for state in states)]
        for key, counts in sorted(groups.items())
    ]
    return [["task", "model", "optimizer", "ruleset", "budget", "group", "runs", *states], *rows]


def summary(found: Sequence[RunState]) -> str:
    """Say how many there are, and how many in each state."""
    counts = Counter(item.state for item in found)
    parts = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    return f"{len(found)} run{'s' * (len(found) != 1)}: {', '.join(parts)}"


def remarks(found: Iterable[RunState]) -> list[str]:
    """One line for each run that is not done, in the order of ``STATES``."""
    unfinished = [item for item in found if item.state != "done"]
    unfinished.sort(key=lambda item: STATES.index(item.state))
    return [
        f"  {item.state}: {_label(item)}{_progress(item.run)}{_reason(item)}" for item in unfinished
    ]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines of text, their columns in line."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _label(item: RunState) -> str:
    if item.run is None:
        return f"run {item.run_id}"
    facts = item.run.identity
    label = run_config.label_of(
        facts["task"], facts["optimizer"], seed=facts["seed"], control=facts.get("control")
    )
    return f"{label} (run {item.run_id})"


def _progress(run: Run | None) -> str:
    if run is None or not run.progress.get("total_steps"):
        return ""
    return f" at step {run.progress.get('step')} of {run.progress['total_steps']}"


def _reason(item: RunState) -> str:
    return "" if item.reason is None else f": {item.reason}"


def _print_table(console: Console, header: list[str], rows: list[list[str]]) -> None:
    shown = Table()
    for name in header:
        shown.add_column(name, overflow="fold")
    for row in rows:
        shown.add_row(*row)
    console.print(shown, soft_wrap=False)
