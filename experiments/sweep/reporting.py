"""What a sweep tells of its runs: each end at once where nothing else shows it, and a summary."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from experiments.records.outcome import Outcome
from experiments.records.schema import FAULTS
from experiments.sweep.shared_folder import SweepFolder
from experiments.system.output import say


@contextlib.contextmanager
def live(shared: SweepFolder, size: int, shown: bool) -> Iterator[None]:
    """Tell of each end at once, where the jobs' own lines go elsewhere."""
    over = threading.Event()
    reported: set[int] = set()

    def tell() -> None:
        while True:
            last = over.wait(0.5)
            for number, outcome in shared.outcomes().items():
                if number not in reported and not outcome.skipped:
                    reported.add(number)
                    why = f" ({outcome.reason})" if outcome.reason else ""
                    where = "" if outcome.status == "done" else f", see {_folder(shared, outcome)}"
                    line = f"run {number + 1}/{size} {outcome.label}: {outcome.status}{why}{where}"
                    say(line, error=True)
            if last:
                return

    if shown:
        yield
        return
    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _folder(shared: SweepFolder, outcome: Outcome) -> Path:
    return shared.path.parents[1] / outcome.run_id


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
