"""The check of a ``match_seconds`` sweep: each method's training time beside the reference's."""

import json
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.records.calibration import RUN_FILE, read
from experiments.records.schema import BrokenRecordError, Run, load_environment, load_runs
from experiments.records.store import write_atomic
from experiments.system.output import say

TOLERANCE_PERCENT = 3.0
"""Of the reference's training time; a wider spread of the machine itself takes its place."""
_BLOCK = ("task", "model", "setting", "tokenization", "batch_size", "budget")
_MACHINE = ("device", "cpu_model", "cpu_count", "threads")
"""What an environment says of the machine: times are of one, as its calibrations are."""

_Facts = tuple[object, ...]
_Block = tuple[_Facts, _Facts]
"""All that a method and its reference have alike: what they trained, and the machine."""


@dataclass(frozen=True)
class Matched:
    """The finished runs of a method, one a seed, against the time that they were to take.

    Each seed may have gone by a calibration of its own.
    """

    runs: tuple[Run, ...]
    block: _Block
    reference_seconds: tuple[float, ...]  # of the reference's run of that seed, else of the budget
    reference_varied_percent: float | None  # as ``varied_percent``, of the reference's runs

    @property
    def method(self) -> str:
        """Its name in ``conf/optimizer``."""
        name: str = self.runs[0].identity["optimizer"]
        return name

    @property
    def calibrations(self) -> list[dict[str, Any]]:
        """What its runs went by."""
        return [run.summary["calibration"] for run in self.runs]

    @property
    def is_reference(self) -> bool:
        """Whether it is the measure of the others."""
        return _is_reference(self.runs[0])

    @property
    def steps(self) -> list[int]:
        """The steps of its runs."""
        return [run.progress["step"] for run in self.runs]

    @property
    def ratio(self) -> float:
        """The cost of its step in steps of the reference, in the mean over its calibrations."""
        return statistics.fmean(facts["ratio"] for facts in self.calibrations)

    @property
    def seconds(self) -> float:
        """Mean training time over the seeds."""
        return statistics.fmean(_seconds(run) for run in self.runs)

    @property
    def varied_percent(self) -> float:
        """Half the range of the training times over the seeds, in percent of their mean."""
        return _half_range_percent([_seconds(run) for run in self.runs]) or 0.0

    @property
    def off_percent(self) -> float:
        """How much longer they took than the reference, in the mean over the seeds."""
        return 100.0 * (self.seconds / statistics.fmean(self.reference_seconds) - 1.0)

    @property
    def planned_percent(self) -> float | None:
        """How much longer its steps were to take: no whole number of steps comes nearer.

        None where ``planned_seconds`` is.
        """
        planned, whole = self.planned_seconds, statistics.fmean(self.reference_seconds)
        return None if planned is None else 100.0 * (planned / whole - 1.0)

    @property
    def planned_seconds(self) -> float | None:
        """The training time that its steps were to take, at the speed of the reference's runs.

        The mean over the seeds. None where a run has lost its calibration, or was charged for its
        set-up as those of before.
        """
        planned = []
        for run, whole in zip(self.runs, self.reference_seconds, strict=True):
            measured = read(run.path / RUN_FILE)
            if measured is None or measured.noise_percent is None:
                return None
            given: float = run.summary["budget_train_seconds"]
            planned.append(whole * measured.seconds(run.progress["step"]) / given)
        return statistics.fmean(planned)

    @property
    def spread_percent(self) -> float:
        """What the machine differs by from itself.

        The widest of: the reference's runs, from seed to seed; the ratio of a calibration, from
        round to round; the reference in it, from its second turn in a round.
        """
        kinds = ("between_runs_percent", "noise_percent", "spread_percent")  # the first: of before
        within = [
            next(facts[kind] for kind in kinds if facts.get(kind) is not None)
            for facts in self.calibrations
        ]
        spread = [facts["spread_percent"] for facts in self.calibrations]
        return max(self.reference_varied_percent or 0.0, *within, *spread)

    @property
    def within(self) -> str | None:
        """The first of the tolerances that the difference keeps to, in words; None for none."""
        if abs(self.off_percent) <= TOLERANCE_PERCENT:
            return f"{TOLERANCE_PERCENT:g} %"
        if abs(self.off_percent) <= self.spread_percent:
            return "the machine's own spread"
        planned, most = self.planned_percent, max(TOLERANCE_PERCENT, self.spread_percent)
        if planned is not None and abs(self.off_percent - planned) <= most:
            return "either of the planned time"
        return None


def matched(runs: Sequence[Run]) -> list[Matched]:
    """Pair the finished runs of a matched time with those of the reference in their block.

    A block is of one machine: beside runs of another, a method is held against its own budget.
    Scalar controls have the steps of their methods, not the time, and are left out.
    """
    timed = [
        run
        for run in runs
        if run.status == "done"
        and {"calibration", "budget_train_seconds"} <= run.summary.keys()
        and run.progress.get("step")
        and run.progress.get("train_seconds")
        and not run.identity.get("control")
    ]
    blocked = [(_block(run), run) for run in timed]
    references = {
        (block, run.identity["seed"]): _seconds(run) for block, run in blocked if _is_reference(run)
    }
    methods: dict[tuple[_Block, str, str | None], list[Run]] = {}
    for block, run in blocked:
        # Not by name alone: a method at several learning rates is several methods.
        key = (block, run.identity["optimizer"], run.identity.get("group_id"))
        methods.setdefault(key, []).append(run)
    varied: dict[_Block, list[float]] = {}
    for (block, _), took in references.items():
        varied.setdefault(block, []).append(took)
    return [
        Matched(
            tuple(members),
            block,
            tuple(
                references.get((block, run.identity["seed"]), run.summary["budget_train_seconds"])
                for run in members
            ),
            _half_range_percent(varied.get(block, [])),
        )
        for (block, *_), members in methods.items()
    ]


def lines(found: Sequence[Matched]) -> list[str]:
    """One table for each block, which names its machine where there are several."""
    lines: list[str] = []
    blocks: dict[_Block, list[Matched]] = {}
    for one in found:
        blocks.setdefault(one.block, []).append(one)
    several = len({machine for _, machine in blocks}) > 1
    for (_, machine), members in blocks.items():
        of = members[0].runs[0].identity
        # What is not its task's default, but for the budget, which is named whole.
        changed = ((of.get("origin") or {}).get("setting") or {}).items()
        apart = [f"{key}={value}" for key, value in changed if not key.startswith("budget")]
        where = [_named(machine)] if several else []
        lines.append(", ".join([f"{of['task']} {of['model']}", of["budget"], *apart, *where]))
        lines.append(
            f"  {'method':<22}{'steps':>12}{'ratio':>8}{'paper':>7}{'runs':>6}{'planned s':>11}"
            f"{'measured s':>12}{'off':>8}{'varied':>8}{'machine':>9}"
        )
        for one in sorted(members, key=lambda one: one.ratio):
            paper = one.calibrations[0]["published_ratio"]
            steps = "-".join(str(count) for count in sorted({min(one.steps), max(one.steps)}))
            varied = f"{one.varied_percent:.1f}%" if len(one.runs) > 1 else "-"
            planned = "-" if one.planned_seconds is None else f"{one.planned_seconds:.2f}"
            lines.append(
                f"  {one.method:<22}{steps:>12}{one.ratio:>8.3f}"
                f"{'-' if paper is None else format(paper, 'g'):>7}"
                f"{len(one.runs):>6}{planned:>11}{one.seconds:>12.2f}{one.off_percent:>+7.1f}%"
                f"{varied:>8}{one.spread_percent:>8.1f}%"
                f"{'' if one.within else '  beyond'}"
            )
        lines += [
            "  planned: its steps at the speed of the reference's runs; off: of the reference's",
            "  time, seed by seed; varied: half the range over seeds; machine: its own spread,",
            "  of the reference from seed to seed and, while it was calibrated, from itself",
        ]
    others = [one for one in found if not one.is_reference]
    counts = Counter(one.within for one in others)
    kept = ", ".join(f"{count} within {words}" for words, count in counts.items() if words)
    beyond = f", {counts[None]} beyond" if counts[None] else ""
    lines.append(f"time of the reference: {len(others)} others, {kept or 'none within'}{beyond}")
    return lines


def facts(found: Sequence[Matched]) -> dict[str, Any]:
    """Give the check as data, with the environment that the runs share; ``steps`` by ``seeds``.

    Raises:
        UserError: If they share none: the file names one.
    """
    runs = [run for one in found for run in one.runs]
    environments = [_environment(run) for run in runs]
    for key in _MACHINE:
        values = sorted({str(environment.get(key)) for environment in environments})
        if len(values) > 1:
            raise UserError(f"runs of several machines ({key}: {', '.join(values)}): must be one.")
    return {
        "environment": environments[0],
        "tolerance_percent": TOLERANCE_PERCENT,
        "methods": [
            {
                **{key: one.runs[0].identity.get(key) for key in _BLOCK},
                "method": one.method,
                "is_reference": one.is_reference,
                "seeds": [run.identity["seed"] for run in one.runs],
                "steps": one.steps,
                "seconds": one.seconds,
                "varied_percent": one.varied_percent,
                "off_percent": one.off_percent,
                "planned_seconds": one.planned_seconds,
                "planned_percent": one.planned_percent,
                "spread_percent": one.spread_percent,
                "within": one.within,
            }
            for one in found
        ],
    }


def main(runs_dir: Path, out: Path | None = None) -> int:
    """Print the check; returns 0 if every method took the time of its reference.

    Args:
        runs_dir: Folder of the run records.
        out: File to write the check to, as JSON.

    Raises:
        UserError: If there is nothing to check.
    """
    runs, broken = load_runs(runs_dir)
    found = matched(runs)
    if not found:
        raise UserError(f"No finished run of budget=match_seconds in {runs_dir}.")
    say(*broken, *lines(found))
    if out is not None:
        content = json.dumps(facts(found), indent=1) + "\n"
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(out, content.encode())
    return 0 if all(one.within for one in found) else 1


def _seconds(run: Run) -> float:
    took: float = run.progress["train_seconds"]
    return took


def _half_range_percent(took: Sequence[float]) -> float | None:
    return 50.0 * (max(took) - min(took)) / statistics.fmean(took) if len(took) > 1 else None


def _is_reference(run: Run) -> bool:
    """Tell the reference from a variant of it, which has its name and was measured beside it."""
    calibration = run.summary["calibration"]
    is_named = run.identity["optimizer"] == calibration["reference"]
    return bool(is_named and calibration["ratio"] == 1.0)


def _named(machine: _Facts) -> str:
    """Name a machine in a few words; ``machine`` is what ``_MACHINE`` is there."""
    told = zip(_MACHINE, machine, strict=True)
    return "on " + "; ".join(f"{key} {value}" for key, value in told if value is not None)


def _block(run: Run) -> _Block:
    """Name all that runs share but for their method and its steps."""
    protocol = dict(run.identity.get("protocol") or {})
    protocol.pop("budget", None)
    whole = json.dumps(protocol, sort_keys=True, default=str)
    environment = _environment(run)
    machine = tuple(environment.get(key) for key in _MACHINE)
    return (*(run.identity.get(key) for key in _BLOCK), whole), machine


def _environment(run: Run) -> dict[str, Any]:
    """Tell where a run ran; nothing where its record does not say."""
    try:
        return load_environment(run.path)
    except BrokenRecordError:
        return {}
