"""What a sweep tells of its runs in the end: a summary that forgets none."""

from collections import Counter
from collections.abc import Mapping

from experiments.records.outcome import Outcome
from experiments.records.schema import FAULTS
from experiments.system.output import say


def summarise(outcomes: Mapping[int, Outcome], size: int, *, started: int) -> None:
    """Print how the jobs of a sweep ended, and how many of them did not.

    Args:
        outcomes: By number of the job.
        size: How many jobs there are.
        started: How many began, of those that no earlier sweep had finished.
    """
    ended = list(outcomes.values())
    counts = Counter(outcome.status for outcome in ended)
    parts = [f"{count} {status}" for status, count in sorted(counts.items())]
    earlier = sum(outcome.skipped for outcome in ended)
    unfinished = max(0, started - (len(ended) - earlier))
    for count, what in (
        (unfinished, "not finished"),
        (size - len(ended) - unfinished, "not started"),
    ):
        if count:
            parts.append(f"{count} {what}")
    lines = [f"sweep of {size}: {', '.join(parts)} ({earlier} from before)"]
    lines += [
        f"  {outcome.status}: {outcome.label} (run {outcome.run_id}): {outcome.reason}"
        for outcome in ended
        if outcome.status != "done"
    ]
    if any(counts[status] for status in FAULTS):
        lines.append("  `retry=true` runs what failed again")
    say(*lines, error=True)
