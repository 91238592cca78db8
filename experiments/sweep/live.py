"""What a person sees while a sweep runs: one display for all of it on a terminal, else plain lines.

The runs, in whatever process, note in the sweep's folder where they stand; the process that leads
the sweep reads it there, and so shows the same under every launcher.
"""

import contextlib
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from experiments.config.run_config import RunConfig
from experiments.records.outcome import Outcome
from experiments.sweep.shared_folder import Begun, Ends, Growing, SweepFolder
from experiments.system.log import LINES_FILE, on_terminal
from experiments.system.output import plain_line, say

_READ_SECONDS = 0.3
_BAR, _LABEL = 16, 32  # letters, at most
_ECHO = 3  # letters at the end of a line: a terminal writes ^C there, which must not wrap


Likeness = tuple[str, ...]


@contextlib.contextmanager
def shown(
    shared: SweepFolder, configs: Sequence[RunConfig], parallel: int, *, prints: bool
) -> Iterator[None]:
    """Show a sweep for as long as the context lasts.

    Args:
        shared: The sweep's folder.
        configs: The config of each job.
        parallel: How many run at once.
        prints: Whether what the jobs print comes to this terminal.
    """
    is_terminal = on_terminal()
    if prints and not is_terminal:
        yield
        return
    over = threading.Event()
    board = Board(shared, configs, parallel)
    tell = board.show if is_terminal else board.tell
    thread = threading.Thread(target=tell, args=(over, prints), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def preparing() -> Iterator[Callable[[str], None]]:
    """Show what is done before the first run starts, on a terminal alone and gone afterwards.

    Elsewhere a mistake is to be the one line that there is.
    """
    if not on_terminal():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("composing what was asked for") as status:
        yield lambda text: status.update(Text(plain_line(text)))


class Board:
    """What the sweep's folder says, as lines and as a picture of the moment.

    Args:
        shared: The sweep's folder.
        configs: The config of each job.
        parallel: How many run at once.
    """

    def __init__(self, shared: SweepFolder, configs: Sequence[RunConfig], parallel: int) -> None:
        self._shared, self._configs, self._parallel = shared, configs, parallel
        self._reported: set[int] = set()
        self._ends, self._lines = Ends(shared), Growing(shared.path / LINES_FILE)
        self._begun = Begun(shared)
        self._began: dict[int, float] = {}  # by job, on the monotonic clock
        self._took: dict[int, float] = {}

    def tell(self, over: threading.Event, prints: bool) -> None:
        """Print each end as a line, until ``over``; ``prints``: whether the jobs do so."""
        while True:
            last = over.wait(0.5)
            for line in self.lines(prints=prints):
                say(line, error=True)
            if last:
                return

    def show(self, over: threading.Event, prints: bool) -> None:
        """Show a live picture, and each line above it, until ``over``."""
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True, highlight=False, soft_wrap=True)
        with Live(console=console, transient=True, auto_refresh=False) as live:
            while True:
                last = over.wait(_READ_SECONDS)
                for line in self.lines(prints=prints):
                    console.print(line, markup=False)
                if last:
                    return
                live.update(self.picture(console.width - _ECHO), refresh=True)

    def lines(self, *, prints: bool) -> list[str]:
        """Give what is new: what the jobs noted to be printed, and ends that nothing else tells."""
        found = [str(json.loads(line)) for line in self._lines.lines()]
        for number, outcome in self._ends.read().items():
            if not prints and number not in self._reported and not outcome.skipped:
                self._reported.add(number)
                found.append(self._end(number, outcome))
        return found

    def picture(self, width: int) -> Any:
        """Draw how many runs are done, and where those under way stand, in lines of ``width``."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        outcomes = self._ends.read()
        running = sorted(self._begun.read() - set(outcomes))
        stands = {number: self._stand(number) for number in running}
        self._clock(running, outcomes)
        table = Table.grid(padding=(0, 1))
        across = max(1, min(_BAR, width // 6))
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=min(_LABEL, width // 3))
        table.add_column(width=across)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        table.width = width
        size = len(self._configs)
        done = ProgressBar(total=max(size, 1), completed=len(outcomes), width=across)
        table.add_row(
            Text(f"sweep: {len(outcomes)} of {size}"), done, Text(self._sum(outcomes, stands))
        )
        if (cause := self._shared.stop_cause()) is not None:
            how = "; Ctrl-C again does not wait" if cause == signal.SIGINT.name else ""
            table.add_row(Text("stopping"), Text(""), Text(f"the runs save their state{how}"))
        for number, stand in stands.items():
            label = plain_line(self._configs[number].label)
            share = min(1.0, float(stand.get("share") or 0.0))
            bar = ProgressBar(total=1.0, completed=share, width=across)
            facts = plain_line(str(stand.get("facts") or "starting"))
            facts = f"{100 * share:.0f} %  {facts}" if "facts" in stand else facts
            table.add_row(Text(label), bar, Text(facts))
        return table

    def _sum(self, outcomes: dict[int, Outcome], stands: dict[int, dict[str, Any]]) -> str:
        counts = Counter(outcome.status for outcome in outcomes.values())
        parts = [f"{count} {status}" for status, count in sorted(counts.items())]
        left = self._seconds_left(outcomes, stands)
        return "  ".join([", ".join(parts), *([] if left is None else [f"{_duration(left)} left"])])

    def _seconds_left(
        self, outcomes: dict[int, Outcome], stands: dict[int, dict[str, Any]]
    ) -> float | None:
        """Estimate the rest: of runs under way as they say, of others as alike ones took."""
        under_way = {number: stand.get("seconds_left") for number, stand in stands.items()}
        whole = dict(self._took)
        for number, left in under_way.items():
            if left is not None:
                whole.setdefault(number, time.monotonic() - self._began[number] + left)
        known: dict[Likeness, list[float]] = {}
        for number, seconds in whole.items():
            for alike in self._alike(number):
                known.setdefault(alike, []).append(seconds)
        means = {alike: sum(found) / len(found) for alike, found in known.items()}
        total = 0.0
        for number in set(range(len(self._configs))) - set(outcomes):
            left = under_way.get(number)
            if left is None:
                left = next((means[key] for key in self._alike(number) if key in means), None)
            if left is None:
                return None
            total += left
        return total / self._parallel

    def _alike(self, number: int) -> tuple[Likeness, ...]:
        """Name what runs that take as long have in common, the nearest first."""
        config = self._configs[number]
        return (config.task.name, config.optimizer.name), (config.task.name,), ()

    def _clock(self, running: Sequence[int], outcomes: dict[int, Outcome]) -> None:
        now = time.monotonic()
        for number in running:
            self._began.setdefault(number, now)
        for number in outcomes:
            if number in self._began and number not in self._took:
                self._took[number] = now - self._began[number]

    def _stand(self, number: int) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):  # not there yet, or half written
            found = json.loads(self._shared.progress_file(number).read_text(encoding="utf-8"))
            return found if isinstance(found, dict) else {}
        return {}

    def _end(self, number: int, outcome: Outcome) -> str:
        where = ""
        if outcome.status != "done":
            where = f", see {self._shared.path.parents[1] / outcome.run_id}"
        return f"run {number + 1}/{len(self._configs)} {outcome.label}: {outcome.told()}{where}"


def _duration(seconds: float) -> str:
    """Write a duration in one unit or two.

    Example:
        >>> [_duration(seconds) for seconds in (42.4, 130, 7300)]
        ['42 s', '2 min', '2 h 2 min']
    """
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
