"""Sizes that a reader of a paper meets, read out of the PDFs, and words that stay on the page."""

import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

import analysis.figures
from analysis.plots.missing import Missing, failed_figure
from analysis.plots.panels import note_of
from analysis.report import drawing
from analysis.report.report import names_of
from analysis.results.load import Results, load_results
from analysis.style import HALF_WIDTH, LEAST_FONT, LEAST_LINE, MOST_HEIGHT, TEXT_WIDTH, Look

RUNS = Path(__file__).resolve().parents[1] / "golden" / "runs"
FIGURES = names_of(analysis.figures)
POINTS = 72  # an inch
LONG = "a_method_whose_name_is_as_long_as_a_folder_of_a_machine_lets_it_be_and_says_{:03}_"

_TOKEN = re.compile(
    rb"\((?:\\.|[^\\()])*\)|<[0-9A-Fa-f\s]*>|/[^\s\[\]()<>/]+|[^\s\[\]()<>/]+|\[|\]", re.DOTALL
)
_STROKES = {b"S", b"s", b"B", b"b", b"B*", b"b*"}


@dataclass
class Sizes:
    """Of one page: sides in points, and every size of letters and width of lines that is drawn."""

    width: float
    height: float
    fonts: set[float]
    lines: set[float]


def read(pdf: bytes) -> Sizes:
    """Follow the operators of a PDF that is not compressed (ISO 32000-1, 8.4, 8.5, 9.3)."""
    box = re.search(rb"/MediaBox \[ *([^\]]*)\]", pdf)
    assert box is not None
    _, _, width, height = map(float, box[1].split())
    found = Sizes(width, height, set(), set())
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    for stream in streams:
        if re.search(rb"(^|\s)(BT|re|l)\s", stream) and not stream.startswith(b"\x00\x01"):
            _follow(stream, found)
    return found


def _follow(stream: bytes, found: Sizes) -> None:
    # A marker is a stream of its own, that is drawn with the width of the page at that place.
    state, stack = [1.0, 1.0], []  # width of lines, scale
    operands: list[bytes] = []
    for token in _TOKEN.findall(stream):
        if token == b"q":
            stack.append(state.copy())
        elif token == b"Q":
            state = stack.pop()
        elif token == b"cm":
            a, b, c, d = (float(value) for value in operands[-6:-2])
            state[1] *= abs(a * d - b * c) ** 0.5
        elif token == b"w":
            state[0] = float(operands[-1])
        elif token == b"Tf":
            found.fonts.add(round(float(operands[-1]) * state[1], 3))
        elif token in _STROKES or (token == b"Do" and operands[-1][1:2] in b"MP"):
            found.lines.add(round(state[0] * state[1], 3))
        if re.fullmatch(rb"[A-Za-z*']+", token):
            operands = []
        else:
            operands.append(token)


def test_the_reader_finds_what_is_drawn(tmp_path: Path) -> None:
    figure = Figure(figsize=(3, 2))
    ax = figure.subplots()
    ax.set_axis_off()
    ax.plot([0, 1], [0, 1], lw=2.5)
    ax.plot([0, 1], [1, 0], "o", ms=4, mew=0.3, ls="none")
    figure.text(0.5, 0.5, "upright", fontsize=11)
    figure.text(0.5, 0.5, "turned", fontsize=5, rotation=90)
    with mpl.rc_context({"pdf.compression": 0, "pdf.fonttype": 42}):
        figure.savefig(tmp_path / "a.pdf")
    sizes = read((tmp_path / "a.pdf").read_bytes())
    assert (sizes.width, sizes.height) == (3 * POINTS, 2 * POINTS)
    assert sizes.fonts == {11, 5}
    assert sizes.lines == {2.5, 0.3}


def outside(figure: Figure) -> Iterator[str]:
    """Words of a drawn figure that its page cuts."""
    page, hidden = figure.bbox.padded(1.0), set(map(id, _not_drawn(figure)))
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        box = text.get_window_extent()
        inside = page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
        if text.get_visible() and text.get_text() and id(text) not in hidden and not inside:
            yield text.get_text()


def _not_drawn(figure: Figure) -> Iterator[Text]:
    """Labels of ticks beyond the ends of their axis, and those of axes that are off."""
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            if not ax.axison:
                yield axis.label
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not (ax.axison and low <= tick.get_loc() <= high):
                    yield from (tick.label1, tick.label2)


def check(name: str, results: Results, width: float = TEXT_WIDTH) -> None:
    figure = importlib.import_module(f"analysis.figures.{name}").build(results)
    if isinstance(figure, Missing):
        return
    with mpl.rc_context({"pdf.compression": 0}):
        sizes = read(drawing._render(figure, name, "", ("pdf",))["pdf"])
    assert sizes.width == pytest.approx(width * POINTS)
    assert sizes.height <= MOST_HEIGHT * POINTS
    assert sizes.fonts
    assert min(sizes.fonts) >= LEAST_FONT
    assert min(sizes.lines, default=LEAST_LINE) >= LEAST_LINE  # some have but a sentence
    figure.draw_without_rendering()
    assert list(outside(figure)) == []
    assert len(figure.legends) <= 1
    assert not any(ax.get_legend() for ax in figure.axes)
    assert len(note_of(figure)) > 20


@pytest.fixture(scope="module")
def golden() -> Results:
    return load_results(RUNS)


@pytest.mark.parametrize("name", FIGURES)
def test_the_golden_runs(name: str, golden: Results) -> None:
    check(name, golden)


@pytest.mark.parametrize("name", ["test_metric_vs_epoch", "quality_vs_cost", "expected_best"])
def test_half_as_wide(name: str) -> None:
    with Look(half=True, serif=True).used():
        check(name, load_results(RUNS / "sweep"), width=HALF_WIDTH)


def one_run(write_run: Any) -> None:
    write_run("adam")


def constant(write_run: Any) -> None:
    for name in ("adam", "adamw"):
        for seed in range(2):
            write_run(name, seed, (90.0, 90.0, 90.0), summary={"state_bytes": 2**20})


def without_costs(write_run: Any) -> None:
    for name in ("adam", "adamw"):
        rows = [{"step": i, "epoch": float(i), "test_accuracy_percent": 90.0 + i} for i in (1, 2)]
        write_run(name, rows=rows)


def long_names(write_run: Any) -> None:
    for index in range(20):
        name = LONG.format(index)
        assert len(name) == 80
        for task in ("digits", LONG.format(99)):
            write_run(name, 0, (60.0 + index, 70.0 + index, 75.0 + index), task=task)
            write_run(name, 1, (61.0 + index, 70.0 + index), task=task, status="diverged")
    write_run("adamw", 0, (80.0, 95.0, 96.0))
    for lr in (0.1, 0.01, 0.001):
        for index in range(20):
            write_run(LONG.format(index), 0, (70.0 + lr,), hyperparameters={"lr": lr}, task="rates")


def wide_names(write_run: Any) -> None:
    for index in range(20):
        for seed in range(3):
            write_run(f"MWMWMW{index}", seed, (80.0, 90.0 + 0.3 * index))


def many_tasks(write_run: Any) -> None:
    for task in range(21):  # one more than a page holds
        for name in ("adafisher", "adamw"):
            summary = {"state_bytes": 2**20, "peak_memory_bytes": 2**28}
            write_run(name, 0, (80.0, 95.0), task=f"task_{task:02}", summary=summary)
            rate = {"lr": 0.1, "beta": task}
            write_run(name, 0, (80.0, 95.0), task=f"task_{task:02}", hyperparameters=rate)


MADE_UP: tuple[Callable[[Any], None], ...] = (
    one_run,
    constant,
    without_costs,
    long_names,
    wide_names,
    many_tasks,
)


@pytest.mark.parametrize("make", MADE_UP, ids=lambda make: make.__name__)
def test_made_up_runs(make: Callable[[Any], None], write_run: Any, runs_dir: Path) -> None:
    make(write_run)
    results = load_results(runs_dir)
    for name in FIGURES:
        check(name, results)


def test_a_failure_has_the_size_of_a_figure() -> None:
    figure = failed_figure("ValueError: " + "long " * 60)
    assert figure.get_figwidth() == TEXT_WIDTH
    assert min(text.get_fontsize() for text in figure.texts) >= LEAST_FONT


def test_what_is_missing_is_no_picture(runs_dir: Path) -> None:
    results = load_results(runs_dir)
    for name in FIGURES:
        built = importlib.import_module(f"analysis.figures.{name}").build(results)
        assert isinstance(built, Missing)
