"""The committed tables are what the committed runs give; a change that moves them is seen."""

import importlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

import analysis.figures
from analysis.plots.missing import FAILED, Missing
from analysis.render import cell_text
from analysis.report import __main__ as report
from analysis.report.report import names_of
from analysis.results.cache import CACHE
from analysis.results.load import Results, load_results
from analysis.tables import results as results_table
from experiments.records.archive import OPENED_DIR, opened
from experiments.records.schema import CONFIG_FILE, ENVIRONMENT_FILE, SCHEMA, load_run
from experiments.replay.rerun import REPLAYS

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
RUNS = GOLDEN / "runs"
LONG = re.compile(r"-?\d+\.\d{10,}(?:e-?\d+)?")  # numbers in full precision
STUDY = GOLDEN.parents[1] / "results" / "study"
KEPT = {GOLDEN / "tables": RUNS / "sweep", STUDY / "tables": STUDY}
"""By the folder of the tables, that of the records."""
TABLES = [path for tables in KEPT for path in sorted(tables.iterdir())]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    @cache
    def write(tables: Path) -> Path:
        out = tmp_path_factory.mktemp("tables")
        assert report.main(["--runs", str(KEPT[tables]), "--out", str(out), "--tables-only"]) == 0
        return out / "tables"

    return write


def test_there_are_committed_tables() -> None:
    for tables in KEPT:
        assert {"results.csv", "results.md"} <= {path.name for path in tables.iterdir()}


@pytest.mark.parametrize("path", TABLES, ids=lambda path: f"{path.parents[1].name}-{path.name}")
def test_the_tables_are_the_committed_ones(written: Callable[[Path], Path], path: Path) -> None:
    ours, golden = (
        (folder / path.name).read_text("utf-8") for folder in (written(path.parent), path.parent)
    )
    assert LONG.sub("#", ours) == LONG.sub("#", golden)
    # Processors with vectors of other widths have another last digit of exp and log.
    numbers = [[float(number) for number in LONG.findall(text)] for text in (ours, golden)]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-13, abs=0.0)


def test_every_run_of_the_golden_sweep_counts() -> None:
    runs = load_results(RUNS / "sweep").runs
    assert set(runs["task"]) == {"digits", "tinyshakespeare"}
    assert set(runs.groupby(["task", "optimizer"])["seed"].nunique()) == {3}


def test_other_runs_beside_the_sweep_change_no_number_of_it(everything: Results) -> None:
    """The rates, batch sizes and controls of the figures are variants and settings of their own."""
    alone = results_table.build(load_results(RUNS / "sweep")).map(cell_text)
    beside = results_table.build(everything).map(cell_text)
    rows = beside.index.intersection(alone.index)
    assert len(rows) == len(alone)
    pd.testing.assert_frame_equal(beside.loc[alone.index, alone.columns], alone)


def test_what_reading_leaves_beside_records_is_no_part_of_the_repository() -> None:
    ignored = (GOLDEN.parents[1] / ".gitignore").read_text("utf-8").splitlines()
    assert {f"{name}/" for name in (CACHE.parts[0], OPENED_DIR, REPLAYS)} <= set(ignored)


@pytest.mark.parametrize("name", ["README.md", "Makefile"])
def test_the_runs_that_are_named_to_be_replayed_are_there(name: str) -> None:
    text = (GOLDEN.parents[1] / name).read_text("utf-8")
    named = set(re.findall(r"RUN=([0-9a-f]{12})(?: RUNS=([\w/]+))?", text))
    assert named
    for run_id, folder in named:
        runs = opened(GOLDEN.parents[1] / folder)[0] if folder else RUNS / "sweep"
        assert (runs / run_id).is_dir()


def test_the_golden_records_can_be_replayed() -> None:
    """Each has its config and environment, and names no folder of a machine."""
    for path in (RUNS / "sweep").iterdir():
        assert (path / CONFIG_FILE).is_file()
        assert (path / ENVIRONMENT_FILE).is_file()
        assert load_run(path).schema == SCHEMA


@pytest.fixture(scope="module")
def everything() -> Results:
    results = load_results(RUNS)
    # They are older than the protocol.
    assert not [line for line in results.broken if "experiments.replay.migrate" not in line]
    return results


# Those of several GPUs are in no golden record.
@pytest.mark.parametrize("name", sorted({*names_of(analysis.figures)} - {"scaling_over_gpus"}))
def test_the_golden_runs_draw_every_figure(everything: Results, name: str) -> None:
    """None of them only says what to run."""
    figure = importlib.import_module(f"analysis.figures.{name}").build(everything)
    assert not isinstance(figure, Missing)
    assert figure.axes
    assert FAILED not in {text.get_text() for text in figure.texts}
