"""The table of a plan: a row a method and task, or a row a method, so that it fits a screen."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from experiments.config.run_config import RunConfig
from experiments.config.run_config import method as method_of
from experiments.records.schema import Run, is_to_run
from experiments.sweep import estimate
from experiments.sweep.estimate import RunCost, Setting
from experiments.sweep.status import aligned

EACH = "each=true"

MOST_ROWS = 17
"""Of a table that leaves room on a screen of 24 lines for what stands above and below it."""

MOST_COLUMNS = 96

Where = tuple[object, ...]


@dataclass(frozen=True)
class Job:
    """One run of the sweep.

    Attributes:
        run_id: Its id.
        label: It in a few words, with the overrides that set it apart.
        varied: These overrides.
        config: Its resolved config.
        state: ``to do``, or one of ``records.states.STATES``.
        run: Its record, if there is one.
    """

    run_id: str
    label: str
    varied: tuple[str, ...]
    config: RunConfig
    state: str
    run: Run | None

    @property
    def is_open(self) -> bool:
        """Whether the sweep would train it."""
        return is_to_run(self.state, retry=self.config.retry)


@dataclass
class Cell:
    """The jobs of one method in one place.

    Attributes:
        jobs: How many.
        to_do: How many of them are open.
        seconds: What these take; None if that is not known of one of them.
        cost: Of a step; None if it is not known.
    """

    jobs: int = 0
    to_do: int = 0
    seconds: float | None = 0.0
    cost: RunCost | None = None


@dataclass
class _Rows:
    cells: dict[tuple[str, Where], Cell] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(method for method, _ in self.cells))

    @property
    def places(self) -> list[Where]:
        return list(dict.fromkeys(where for _, where in self.cells))


def lines(
    jobs: Iterable[Job],
    seconds: Mapping[str, float | None],
    known: Mapping[Setting, RunCost],
) -> list[str]:
    """Write the table.

    Args:
        jobs: Of the sweep.
        seconds: What each open one takes, by run id.
        known: The cost of each setting, as far as it is known.
    """
    rows = _Rows()
    for job in jobs:
        task, model, _, *rest, _ = estimate.setting(job.config)
        name = " ".join([method_of(job.config.optimizer.name, job.config.control), *job.varied])
        cell = rows.cells.setdefault((name, (task, model, *rest)), Cell())
        cell.jobs += 1
        cell.cost = known.get(estimate.setting(job.config))
        if job.is_open:
            cell.to_do += 1
            own = seconds[job.run_id]
            cell.seconds = None if own is None or cell.seconds is None else cell.seconds + own
    names = _names(rows.places)
    if len(rows.cells) > MOST_ROWS and len(rows.places) > 1:
        beside = aligned(_beside(rows, names))
        if max(map(len, beside)) <= MOST_COLUMNS:
            return _cut(beside, rows.methods)
        return _cut(aligned(_summed(rows)), rows.methods)
    table = [["method", "on", "to do", "time", "s a step"]]
    for (method, where), cell in rows.cells.items():
        table.append([method, names[where], *_texts(cell)])
    return _cut(aligned(table), [method for method, _ in rows.cells])


def mark(source: str) -> str:
    """Give the sign of a step time that was not measured here; empty for one that was.

    Example:
        >>> mark(estimate.GOLDEN_SOURCE), mark("runs on cpu")
        ('*', '')
    """
    return "*" if source.startswith(estimate.GOLDEN_SOURCE) else ""


def duration(seconds: float | None) -> str:
    """Write a duration in the unit that tells most.

    Example:
        >>> duration(3.2), duration(90), duration(3600), duration(7000), duration(None)
        ('3 s', '90 s', '60 min', '1.94 h', 'unknown')
    """
    if seconds is None:
        return "unknown"
    if seconds < 100:
        return "<1 s" if 0 < seconds < 1 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.2f} h"


def _beside(rows: _Rows, names: Mapping[Where, str]) -> list[list[str]]:
    """One row a method, three columns a task."""
    heads = [""] + [text for where in rows.places for text in (names[where], "", "")]
    table = [heads, ["method", *["to do", "time", "s a step"] * len(rows.places)]]
    for method in rows.methods:
        found = [rows.cells.get((method, where)) for where in rows.places]
        texts = [["-", "-", "-"] if cell is None else _texts(cell) for cell in found]
        table.append([method, *(text for of in texts for text in of)])
    return table


def _summed(rows: _Rows) -> list[list[str]]:
    """One row a method, all tasks together."""
    table = [["method", "tasks", "to do", "time"]]
    for method in rows.methods:
        cells = [cell for (name, _), cell in rows.cells.items() if name == method]
        whole = Cell(sum(cell.jobs for cell in cells), sum(cell.to_do for cell in cells))
        known = [cell.seconds for cell in cells if cell.seconds is not None]
        whole.seconds = sum(known) if len(known) == len(cells) else None
        table.append([method, str(len(cells)), *_texts(whole)[:2]])
    return table


def _texts(cell: Cell) -> list[str]:
    count = str(cell.to_do) if cell.to_do == cell.jobs else f"{cell.to_do} of {cell.jobs}"
    if not cell.to_do:
        return [count, "-", "-"]
    step = "unknown"
    if cell.cost is not None:
        step = f"{cell.cost.seconds_per_step:.3g}{mark(cell.cost.source)}"
    return [count, duration(cell.seconds), step]


def _names(places: Sequence[Where]) -> dict[Where, str]:
    """Call each place by its task, and by what sets it apart from others of that task."""
    whole = {where: [str(part) for part in where if part is not None] for where in places}
    tasks = [parts[0] for parts in whole.values()]
    return {
        where: parts[0] if tasks.count(parts[0]) == 1 else " ".join(parts)
        for where, parts in whole.items()
    }


def _cut(table: list[str], rows: Sequence[str]) -> list[str]:
    """Leave out the rows that a screen has no room for, and say how many."""
    heads = len(table) - len(rows)
    left = len(rows) - MOST_ROWS
    if left <= 0:
        return table
    return [*table[: heads + MOST_ROWS - 1], f"and {left + 1} more rows; {EACH} lists every run"]
