"""The check of a ``match_seconds`` sweep: the training time of each run beside the reference's."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.calibration_rounds import is_refresh
from experiments.errors import UserError
from experiments.record import Run, load_runs

TOLERANCE_PERCENT = 3.0
"""Of the reference's training time; a wider spread of the calibration takes its place."""


@dataclass(frozen=True)
class Matched:
    """One finished run against the time that it was to take."""

    run: Run
    reference_seconds: float  # measured in a run of the reference, else what the budget gave

    @property
    def is_reference(self) -> bool:
        """Whether it is the measure of the others."""
        method: str = self.run.identity["optimizer"]
        return method == self.run.summary["calibration"]["reference"]

    @property
    def off_percent(self) -> float:
        """How much longer it took than the reference."""
        took: float = self.run.progress["train_seconds"]
        return 100.0 * (took / self.reference_seconds - 1.0)

    @property
    def step_percent(self) -> float:
        """Half a step, in percent: no number of steps need come nearer."""
        given: float = self.run.summary["budget_train_seconds"]
        measured = self.run.summary["calibration"]
        # The step that was left out, or the last one that was taken.
        index = self.run.progress["step"] - (0 if self.off_percent < 0 else 1)
        is_dear = is_refresh(index, measured.get("cycle", 1))
        seconds: float = measured["refresh_seconds" if is_dear else "seconds_per_step"]
        return 50.0 * seconds / given

    @property
    def within(self) -> str | None:
        """The first of the tolerances that the difference keeps to, in words; None for none."""
        tolerances = {
            f"{TOLERANCE_PERCENT:g} %": TOLERANCE_PERCENT,
            "the spread of the calibration": self.run.summary["calibration"]["spread_percent"],
            "half a step": self.step_percent,
        }
        kept = (words for words, most in tolerances.items() if abs(self.off_percent) <= most)
        return next(kept, None)


def matched(runs: Sequence[Run]) -> list[Matched]:
    """Pair the finished runs of a matched time with the reference of their block and seed.

    Scalar controls have the steps of their methods, not the time, and are left out.
    """
    timed = [
        run
        for run in runs
        if run.status == "done" and "calibration" in run.summary and not run.identity.get("control")
    ]
    references = {
        _block(run): run.progress["train_seconds"]
        for run in timed
        if run.identity["optimizer"] == run.summary["calibration"]["reference"]
    }
    return [
        Matched(run, references.get(_block(run), run.summary["budget_train_seconds"]))
        for run in timed
    ]


def lines(found: Sequence[Matched]) -> list[str]:
    """One table for each block and seed."""
    told: list[str] = []
    blocks: dict[tuple[object, ...], list[Matched]] = {}
    for one in found:
        blocks.setdefault(_block(one.run), []).append(one)
    for (task, model, *_, budget, seed), members in blocks.items():
        told.append(f"{task} {model}, {budget}, seed {seed}")
        told.append(
            f"  {'method':<22}{'steps':>7}{'ratio':>8}{'paper':>7}{'seconds':>10}{'off':>9}"
            f"{'spread':>9}{'half a step':>13}"
        )
        for one in sorted(members, key=lambda one: float(one.run.summary["calibration"]["ratio"])):
            measured = one.run.summary["calibration"]
            paper = measured["published_ratio"]
            told.append(
                f"  {one.run.identity['optimizer']:<22}{one.run.progress['step']:>7}"
                f"{measured['ratio']:>8.3f}{'-' if paper is None else format(paper, 'g'):>7}"
                f"{one.run.progress['train_seconds']:>10.2f}{one.off_percent:>+8.1f}%"
                f"{measured['spread_percent']:>8.1f}%{one.step_percent:>12.1f}%"
                f"{'' if one.within else '  beyond'}"
            )
    others = [one for one in found if not one.is_reference]
    counts = Counter(one.within for one in others)
    kept = ", ".join(f"{count} within {words}" for words, count in counts.items() if words)
    beyond = f", {counts[None]} beyond" if counts[None] else ""
    told.append(f"time of the reference: {len(others)} others, {kept or 'none within'}{beyond}")
    return told


def main(runs_dir: Path) -> int:
    """Print the check; returns 0 if every run took the time of its reference.

    Raises:
        UserError: If there is nothing to check.
    """
    runs, broken = load_runs(runs_dir)
    found = matched(runs)
    if not found:
        raise UserError(f"No finished run of budget=match_seconds in {runs_dir}.")
    print("\n".join([*broken, *lines(found)]), flush=True)
    return 0 if all(one.within for one in found) else 1


def _block(run: Run) -> tuple[object, ...]:
    keys = ("task", "model", "setting", "tokenization", "batch_size", "budget", "seed")
    return tuple(run.identity.get(key) for key in keys)
