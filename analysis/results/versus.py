"""What the runs of a comparison say so far: ``python -m analysis.results.versus``, JSON to JSON.

``experiments.versus`` asks after each look, by standard input, with the runs of each task in the
order of their seeds; the answer goes to standard output. By itself it decides nothing else: which
configurations, seeds and looks there are was said before.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from analysis.statistics.paired import holm
from analysis.statistics.power import seeds_needed
from analysis.statistics.sequential import Looked, look
from analysis.statistics.speedup import Reach, first_reach, speed_up
from analysis.statistics.summary import LEVEL
from experiments.records.schema import (
    BrokenRecordError,
    Run,
    check_whole,
    final_and_best,
    load_run,
)
from experiments.records.strict_json import dumps, loads
from experiments.records.verdict import BETTER, LOOKS, UNDECIDED, WITHIN, WORSE
from experiments.system.output import say

Facts = dict[str, Any]


def decide(tasks: Mapping[str, Mapping[str, Sequence[Run]]], *, margin: float | None) -> Facts:
    """Look at all tasks, with Holm's correction for their number.

    A method of which a run diverged, or ended without a finite result, is better nowhere: one that
    the other has all runs against is worse. Where the other has lost some too, nothing is decided.

    Args:
        tasks: By name, the runs of the method (``ours``) and of the other one (``theirs``), in the
            order of their seeds; where one of them was run for as many epochs as the other one,
            too, those runs (``ours_equal_epochs``, ``theirs_equal_epochs``).
        margin: As for ``sequential.look``.

    Returns:
        By task: ``verdict``, one of ``records.verdict``, whether it is ``final``, the ``reason`` if
        it is not by its ``looks``; means, p, speed-up, cost, seeds that would be needed.
    """
    lost = {name: _lost(runs) for name, runs in tasks.items()}
    looked = {
        name: look(_gains(runs), margin=margin) if not any(lost[name].values()) else None
        for name, runs in tasks.items()
    }
    # A task that cannot be tested was one of the family before it was run.
    ps = holm([one.p if one else None for one in looked.values()], tests=len(tasks))
    withins = holm([one.p_within if one else None for one in looked.values()], tests=len(tasks))
    return {
        name: _told(runs, lost[name], looked[name], p, within)
        for (name, runs), p, within in zip(tasks.items(), ps, withins, strict=True)
    }


def _told(
    runs: Mapping[str, Sequence[Run]],
    lost: Mapping[str, str],
    looked: Looked | None,
    p: float | None,
    p_within: float | None,
) -> Facts:
    ours, theirs = runs["ours"], runs["theirs"]
    last = looked.looks[-1] if looked and looked.looks else None
    verdict = UNDECIDED
    if looked is None:
        verdict = WORSE if lost["ours"] and not lost["theirs"] else UNDECIDED
    elif last and p is not None and p <= 1 - LEVEL:
        # The p-value is of the look that was the clearest; with several tasks others may follow.
        if looked.is_better == (last.difference > 0):
            verdict = BETTER if looked.is_better else WORSE
    elif p_within is not None and p_within <= 1 - LEVEL:
        verdict = WITHIN
    reason = "; ".join(f"{who}: {what}" for who, what in lost.items() if what)
    if last and last.low is None:
        reason = "all differences are equal"
    needed = None
    if verdict == UNDECIDED and last and last.std and last.low is not None:
        needed = seeds_needed(last.difference, last.std)
    first = theirs[0].identity
    return {
        "verdict": verdict,
        "final": verdict != UNDECIDED or looked is None or len(theirs) >= LOOKS[-1],
        "reason": reason,
        "n": len(theirs),
        "metric": first["metric"],
        "higher_is_better": first["higher_is_better"],
        "ours": _mean(ours),
        "theirs": _mean(theirs),
        "looks": [asdict(one) for one in looked.looks] if looked else [],
        "p": looked and looked.p,
        "p_corrected": p,
        "p_within": p_within,
        "level": LEVEL,
        "seeds_needed": needed,
        "speed_up": _speed_up(ours, theirs),
        "cost_ratio": _cost(ours) / _cost(theirs) if _cost(theirs) else None,
        "equal_epochs": _beside(runs),
    }


def _final(run: Run) -> float:
    """Give the result of a run; NaN where it has none."""
    of = run.identity
    value = final_and_best(run.rows, of["metric"], of["higher_is_better"])["final"]
    return math.nan if value is None or run.status != "done" else value


def _mean(runs: Sequence[Run]) -> float | None:
    values = [value for run in runs if math.isfinite(value := _final(run))]
    return statistics.fmean(values) if values else None


def _gains(runs: Mapping[str, Sequence[Run]]) -> list[float]:
    """Subtract by seed; what is better is positive."""
    pairs = zip(runs["ours"], runs["theirs"], strict=True)
    sign = 1 if runs["theirs"][0].identity["higher_is_better"] else -1
    return [sign * (_final(one) - _final(other)) for one, other in pairs]


def _lost(runs: Mapping[str, Sequence[Run]]) -> dict[str, str]:
    """Say how many runs of either have no result; empty where all have one."""
    counts = {
        who: (sum(not math.isfinite(_final(run)) for run in runs[who]), len(runs[who]))
        for who in ("ours", "theirs")
    }
    return {
        who: f"{count} of {of} diverged" if count else "" for who, (count, of) in counts.items()
    }


def _speed_up(ours: Sequence[Run], theirs: Sequence[Run]) -> Facts | None:
    """Compare when the other's mean at its final epochs is reached, in seconds of training."""
    of = theirs[0].identity
    split = "validation" if of.get("validation") else "test"
    column = f"{split}_{of['metric']}"
    extreme = max if of["higher_is_better"] else min
    curves = [[row[column] for row in run.rows if _is_finite(row.get(column))] for run in theirs]
    ends = [extreme(values) for values in curves if values]
    if split == "test":
        ends = [value for run in theirs if math.isfinite(value := _final(run))]
    if not ends:
        return None
    target = statistics.fmean(ends)
    reaches = [
        [_reach(run, column, target, bool(of["higher_is_better"])) for run in runs]
        for runs in (ours, theirs)
    ]
    made = speed_up(*reaches, generator=np.random.default_rng(0))
    return {"metric": column, "target": target, **asdict(made)}


def _reach(run: Run, column: str, target: float, higher_is_better: bool) -> Reach:
    rows = [row for row in run.rows if column in row and _is_finite(row.get("train_seconds"))]
    if not rows:
        return Reach(0.0, False)
    times = [row["train_seconds"] for row in rows]
    values = [row[column] if _is_finite(row[column]) else math.nan for row in rows]
    return first_reach(times, values, target, higher_is_better=higher_is_better)


def _cost(runs: Sequence[Run]) -> float:
    """Give the median over runs of the seconds of a step."""
    costs = [
        run.progress["train_seconds"] / run.progress["step"]
        for run in runs
        if run.progress.get("step")
    ]
    return statistics.median(costs) if costs else math.nan


def _beside(runs: Mapping[str, Sequence[Run]]) -> Facts | None:
    """Give means after as many epochs, without a verdict; None where neither was run so.

    A method of which a run was lost has no mean: it would be that of those that were not.
    """
    sides = {side: runs.get(f"{side}_equal_epochs", runs[side]) for side in ("ours", "theirs")}
    if all(sides[side] is runs[side] for side in sides):
        return None
    lost = _lost(sides)
    means = {side: None if lost[side] else _mean(of) for side, of in sides.items()}
    return {"n": len(sides["ours"]), **means, "lost": lost}


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _read(folder: Path) -> Run:
    """Read a run; one that lost rows would count as one that diverged."""
    run = load_run(folder)
    check_whole(run)
    return run


def main() -> int:
    """Answer one request; 2 where a record cannot be trusted."""
    request = loads(sys.stdin.read())
    runs_dir = Path(request["runs_dir"])
    try:
        tasks = {
            name: {who: [_read(runs_dir / run_id) for run_id in ids] for who, ids in of.items()}
            for name, of in request["tasks"].items()
        }
    except BrokenRecordError as error:
        say(f"error: {error}", error=True)
        return 2
    say(dumps(decide(tasks, margin=request["margin"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
