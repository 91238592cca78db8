"""The committed tables are what the committed runs give; a change that moves them is seen."""

import importlib
from pathlib import Path

import pytest

import analysis.figures
from analysis import report
from analysis.load import Results, load_results
from analysis.missing import FAILED, MISSING

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
RUNS = GOLDEN / "runs"
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
    assert (written / name).read_bytes() == (GOLDEN / "tables" / name).read_bytes()


def test_every_run_of_the_golden_sweep_counts() -> None:
    runs = load_results(RUNS / "sweep").runs
    assert set(runs["task"]) == {"digits", "tinyshakespeare"}
    assert set(runs.groupby(["task", "optimizer"])["seed"].nunique()) == {3}


def test_the_readme_shows_the_golden_table() -> None:
    lines = (GOLDEN / "tables" / "results.md").read_text("utf-8").splitlines()
    table = "\n".join(line for line in lines if line.startswith("|"))
    assert table in (GOLDEN.parents[1] / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def everything() -> Results:
    results = load_results(RUNS)
    # They are older than the protocol.
    assert not [line for line in results.broken if "experiments.migrate" not in line]
    return results


@pytest.mark.parametrize("name", report.names_of(analysis.figures))
def test_the_golden_runs_draw_every_figure(everything: Results, name: str) -> None:
    """None of them only says what to run."""
    figure = importlib.import_module(f"analysis.figures.{name}").build(everything)
    assert figure.axes
    assert {text.get_text() for text in figure.texts}.isdisjoint({MISSING, FAILED})
