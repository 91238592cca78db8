"""What a person sees while a run trains: a live bar on a terminal, plain lines elsewhere."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from experiments.system.output import plain, plain_line

if TYPE_CHECKING:
    from experiments.engine.built import Built
    from experiments.engine.loop import Trainer

PLAIN_VARIABLE = "ADAFISHER_PLAIN"
"""Set by a sweep with parallel jobs: several live bars would overwrite each other."""

_LIVE_SECONDS = 0.2
_PLAIN_SECONDS = 10.0


def short(value: float, decimals: int) -> str:
    """Write a number with so many decimals, but no line of digits where a run blows up.

    Example:
        >>> short(97.5, 2), short(2e30, 4), short(float("nan"), 2)
        ('97.50', '2.000e+30', 'nan')
    """
    return f"{value:.{decimals}f}" if abs(value) < 1e6 else f"{value:.3e}"


class Display:
    """Shows one run on standard error.

    Args:
        title: What every line begins with.
        shown: False in the processes of a run that only compute.
    """

    def __init__(self, title: str, *, shown: bool = True) -> None:
        self._title = plain_line(title)
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=not shown)
        self._live = shown and sys.stderr.isatty() and not os.environ.get(PLAIN_VARIABLE)
        self._bar: Progress | None = None
        self._bar_task: TaskID | None = None
        self._shown_at = time.monotonic()
        self._metric = ""
        self._built: Built | None = None
        self._began: tuple[float, int] | None = None

    def line(self, text: str) -> None:
        """Print one line about the run."""
        self._console.print(f"{self._title}: {plain(text)}", markup=False)

    @contextlib.contextmanager
    def live(self, built: "Built") -> Iterator[None]:
        """Show the progress of ``built`` for as long as the context lasts."""
        self._built = built
        if not self._live:
            yield
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[facts]}", markup=False),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=self._console, transient=True) as self._bar:
            self._bar_task = self._bar.add_task(self._title, total=built.limits.horizon, facts="")
            yield
        self._bar = None

    def step(self, trainer: "Trainer", loss: float) -> None:
        """Show where the trainer stands, if the last showing is long enough ago."""
        now = time.monotonic()
        if (
            self._began is None
        ):  # the rate of this attempt; an earlier one may have been on another machine
            self._began = (trainer.counters.train_seconds, trainer.counters.step)
        if now - self._shown_at < (_LIVE_SECONDS if self._bar else _PLAIN_SECONDS):
            return
        self._shown_at = now
        built, counters = trainer.built, trainer.counters
        epoch = counters.step / built.steps_per_epoch
        progress = built.limits.progress(counters.step, counters.train_seconds)
        rate = counters.total_count / max(counters.train_seconds, 1e-9)
        end = (
            "" if built.total_steps is None else f"/{built.total_steps / built.steps_per_epoch:.4g}"
        )
        facts = f"epoch {epoch:.1f}{end}  loss {short(loss, 4)}  {self._metric}"
        facts += f"{rate:,.0f} {built.task.unit}/s"
        if self._bar is not None and self._bar_task is not None:
            self._bar.update(self._bar_task, completed=progress, facts=facts)
        else:
            self.line(f"{facts}  {self._seconds_left(trainer)}")

    def row(self, row: Mapping[str, Any]) -> None:
        """Take over the metrics of an evaluation."""
        if self._built is None:
            return
        metric = self._built.task.metric
        split = "validation" if f"validation_{metric}" in row else "test"
        value = short(row[f"{split}_{metric}"], 2)
        self._metric = f"{split} {metric.removesuffix('_percent')} {value}  "

    def ended(
        self, status: str, reason: str | None, summary: Mapping[str, Any], metric: str
    ) -> None:
        """Print how the run ended, in one line that stays; only one that is done has a result."""
        final, result = summary.get("final"), ""
        if status == "done" and final is not None:
            result = f", final test {metric.removesuffix('_percent')} {short(final, 2)}"
        elif status == "done" and self._metric:  # the test set was not looked at
            result = f", last {self._metric.strip()}"
        self.line(f"{status}{result}" + (f" ({reason})" if reason else ""))

    def _seconds_left(self, trainer: "Trainer") -> str:
        counters = trainer.counters
        seconds, step = self._began or (0.0, 0)
        limits = trainer.built.limits
        if limits.train_seconds is not None:
            return (
                f"{max(0.0, limits.train_seconds - counters.train_seconds):.0f} s of training left"
            )
        if counters.step == step:
            return ""
        pace = (counters.train_seconds - seconds) / (counters.step - step)
        return f"{pace * (limits.horizon - counters.step):.0f} s of training left"
