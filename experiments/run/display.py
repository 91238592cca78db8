"""What a person sees while a run trains: a live bar on a terminal, plain lines elsewhere.

A run of a sweep has no bar of its own: it notes where it stands, and the process that leads the
sweep shows all that run at once (`experiments/sweep/live.py`).
"""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from experiments.records.collapse import is_collapsed
from experiments.records.outcome import Outcome
from experiments.system import log
from experiments.system.output import plain, plain_line

if TYPE_CHECKING:
    from experiments.engine.built import Built
    from experiments.engine.loop import Trainer

_LIVE_SECONDS = 0.3
_PLAIN_SECONDS = 10.0


def short(value: float, decimals: int) -> str:
    """Write a number with so many decimals, but no line of digits where a run blows up.

    Example:
        >>> short(97.5, 2), short(2e30, 4), short(float("nan"), 2)
        ('97.50', '2.000e+30', 'nan')
    """
    return f"{value:.{decimals}f}" if abs(value) < 1e6 else f"{value:.3e}"


def result_of(metric: str, value: float, unit: str = "") -> str:
    """Write a metric with its unit, and small values with the digits that they have.

    Example:
        >>> result_of("accuracy_percent", 97.5, "%"), result_of("error", 4.25, "kg")
        ('accuracy 97.50 %', 'error 4.25 kg')
        >>> result_of("squared_error", 0.00123)
        'squared_error 1.23e-03'
    """
    name = metric.removesuffix("_percent") if unit == "%" else metric
    said = f"{value:.2e}" if 0 < abs(value) < 0.1 else short(value, 2)
    return f"{name} {said} {unit}".rstrip()


class Display:
    """Shows one run on standard error.

    Args:
        title: What every line begins with.
        shown: False in the processes of a run that only compute.
        progress: The file in which a run of a sweep notes where it stands; None: of no sweep.
    """

    def __init__(self, title: str, *, shown: bool = True, progress: Path | None = None) -> None:
        self._title = plain_line(title)
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=not shown)
        self._progress = progress if shown else None
        self._live = shown and log.on_terminal()
        self._bar: Progress | None = None
        self._bar_task: TaskID | None = None
        self._shown_at = self._noted_at = time.monotonic()
        self._metric = ""
        self._built: Built | None = None
        self._began: tuple[float, int] | None = None

    def line(self, text: str) -> None:
        """Print one line about the run."""
        line = f"{self._title}: {plain(text)}"
        if not (self._console.quiet or log.noted(line, self._progress)):
            self._console.print(line, markup=False)

    @contextlib.contextmanager
    def live(self, built: "Built") -> Iterator[None]:
        """Show the progress of ``built`` for as long as the context lasts."""
        self._built = built
        if not self._live or self._progress is not None:
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
        to_note = self._progress is not None and now - self._noted_at >= _LIVE_SECONDS
        waits = _LIVE_SECONDS if self._bar else _PLAIN_SECONDS
        to_show = now - self._shown_at >= waits and not (self._progress is not None and self._live)
        if not to_note and not to_show:
            return
        built, counters = trainer.built, trainer.counters
        epoch = counters.step / built.steps_per_epoch
        progress = built.limits.progress(counters.step, counters.train_seconds)
        rate = counters.total_count / max(counters.train_seconds, 1e-9)
        end = (
            "" if built.total_steps is None else f"/{built.total_steps / built.steps_per_epoch:.4g}"
        )
        place = f"epoch {epoch:.1f}{end}"
        values = f"loss {short(loss, 4)}  {self._metric}".strip()
        pace = f"{rate:,.0f} {built.task.unit}/s"
        facts = "  ".join((place, values, pace))
        left = self._seconds_left(trainer)
        if to_note:
            self._noted_at = now
            share = progress / max(built.limits.horizon, 1e-9)
            # The bar tells the place, so that it is the first to be cut where there is no room.
            told = "  ".join((values, place, pace))
            self._note({"share": share, "facts": told, "seconds_left": left})
        if not to_show:
            return
        self._shown_at = now
        if self._bar is not None and self._bar_task is not None:
            self._bar.update(self._bar_task, completed=progress, facts=facts)
        else:
            self.line(facts + ("" if left is None else f"  {left:.0f} s of training left"))

    def row(self, row: Mapping[str, Any]) -> None:
        """Take over the metrics of an evaluation."""
        if self._built is None:
            return
        metric = self._built.task.metric
        split = "validation" if f"validation_{metric}" in row else "test"
        self._metric = (
            f"{split} {result_of(metric, row[f'{split}_{metric}'], self._unit(metric))}  "
        )

    def ended(
        self,
        outcome: Outcome,
        summary: Mapping[str, Any],
        metric: str,
        *,
        seconds: float | None = None,
    ) -> Outcome:
        """Print how the run ended, in one line that stays; only one that is done has a result.

        Args:
            outcome: The end.
            summary: Of the record.
            metric: Name of the task's metric.
            seconds: Of training, all attempts together.

        Returns:
            The outcome with what was printed of the result.
        """
        final, result = summary.get("final"), ""
        if outcome.status == "done" and final is not None:
            unit = self._unit(metric)
            result = f"final test {result_of(metric, final, unit)}"
            if self._has_collapsed(summary, unit):
                constant = result_of(metric, summary["constant_prediction"], unit)
                result += f" (collapsed: a constant prediction has {constant})"
        elif outcome.status == "done":  # the test set was not looked at
            result = f"last {self._metric.strip()}" if self._metric else ""
        took = "" if seconds is None else f"{seconds:.1f} s of training"
        outcome = replace(outcome, result=", ".join(filter(None, (result, took))))
        self.line(outcome.told())
        return outcome

    def _has_collapsed(self, summary: Mapping[str, Any], unit: str) -> bool:
        return self._built is not None and is_collapsed(
            summary["final"],
            summary.get("constant_prediction"),
            higher_is_better=self._built.task.higher_is_better,
            unit=unit,
        )

    def _unit(self, metric: str) -> str:
        return "" if self._built is None else self._built.task.units.get(metric, "")

    def _note(self, facts: Mapping[str, Any]) -> None:
        assert self._progress is not None
        with contextlib.suppress(OSError):  # a sweep's folder may be gone, or the disk full
            # As a whole: a reader that finds half of it would take the run for one that begins.
            partial = self._progress.with_suffix(".partial")
            partial.write_text(json.dumps(facts), encoding="utf-8")
            partial.replace(self._progress)

    def _seconds_left(self, trainer: "Trainer") -> float | None:
        counters = trainer.counters
        seconds, step = self._began or (0.0, 0)
        limits = trainer.built.limits
        if limits.train_seconds is not None:
            return max(0.0, limits.train_seconds - counters.train_seconds)
        if counters.step == step:
            return None
        pace = (counters.train_seconds - seconds) / (counters.step - step)
        return float(pace * (limits.horizon - counters.step))
