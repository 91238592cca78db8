"""The committed tables are what the committed runs give; a change that moves them is seen."""

import importlib
import re
from pathlib import Path

import pandas as pd
import pytest

import analysis.figures
from analysis.plots.missing import FAILED, Missing
from analysis.render import cell_text
from analysis.report import __main__ as report
from analysis.report.report import names_of
from analysis.results.load import Results, load_results
from analysis.tables import results as results_table
from experiments.records.schema import CONFIG_FILE, ENVIRONMENT_FILE, SCHEMA, load_run

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
RUNS = GOLDEN / "runs"
LONG = re.compile(r"-?\d+\.\d{10,}(?:e-?\d+)?")  # numbers in full precision
TABLES = sorted(path.name for path in (GOLDEN / "tables").iterdir())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("golden")
    assert report.main(["--runs", str(RUNS / "sweep"), "--out", str(out), "--tables-only"]) == 0
    return out / "tables"


def test_there_are_golden_tables() -> None:
    assert {"results.csv", "results.md", "results.tex"} <= set(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_are_the_committed_ones(written: Path, name: str) -> None:
    ours, golden = ((folder / name).read_text("utf-8") for folder in (written, GOLDEN / "tables"))
    assert LONG.sub("#", ours) == LONG.sub("#", golden)
    # Processors with vectors of other widths have another last digit of exp and log.
    numbers = [[float(number) for number in LONG.findall(text)] for text in (ours, golden)]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-13, abs=0.0)


def test_every_run_of_the_golden_sweep_counts() -> None:
    runs = load_results(RUNS / "sweep").runs
    assert set(runs["task"]) == {"digits", "tinyshakespeare"}
    assert set(runs.groupby(["task", "optimizer"])["seed"].nunique()) == {3}


def test_the_readme_shows_the_golden_table() -> None:
    lines = (GOLDEN / "tables" / "results.md").read_text("utf-8").splitlines()
    table = "\n".join(line for line in lines if line.startswith("|"))
    assert table in (GOLDEN.parents[1] / "README.md").read_text("utf-8")


def test_other_runs_beside_the_sweep_change_no_number_of_it(everything: Results) -> None:
    """The rates, batch sizes and controls of the figures are variants and settings of their own."""
    alone = results_table.build(load_results(RUNS / "sweep")).map(cell_text)
    beside = results_table.build(everything).map(cell_text)
    rows = beside.index.intersection(alone.index)
    assert len(rows) == len(alone)
    pd.testing.assert_frame_equal(beside.loc[alone.index, alone.columns], alone)


@pytest.mark.parametrize("name", ["README.md", "Makefile"])
def test_the_runs_that_are_named_to_be_replayed_are_there(name: str) -> None:
    text = (GOLDEN.parents[1] / name).read_text("utf-8")
    named = set(re.findall(r"RUN=([0-9a-f]{12})", text))
    assert named
    assert named <= {path.name for path in (RUNS / "sweep").iterdir()}


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
