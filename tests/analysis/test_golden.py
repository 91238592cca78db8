"""The committed tables are what the committed runs give; a change that moves them is seen."""

from pathlib import Path

import pytest

from analysis import report
from analysis.load import load_results

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
TABLES = sorted(path.name for path in (GOLDEN / "tables").iterdir())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("golden")
    assert report.main(["--runs", str(GOLDEN / "runs"), "--out", str(out), "--tables-only"]) == 0
    return out / "tables"


def test_there_are_golden_tables() -> None:
    assert {"results.csv", "results.md", "results.tex"} <= set(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_are_the_committed_ones(written: Path, name: str) -> None:
    assert (written / name).read_bytes() == (GOLDEN / "tables" / name).read_bytes()


def test_every_run_of_the_golden_sweep_counts() -> None:
    runs = load_results(GOLDEN / "runs").runs
    assert set(runs["task"]) == {"digits", "tinyshakespeare"}
    assert set(runs.groupby(["task", "optimizer"])["seed"].nunique()) == {3}


def test_the_readme_shows_the_golden_table() -> None:
    lines = (GOLDEN / "tables" / "results.md").read_text("utf-8").splitlines()
    table = "\n".join(line for line in lines if line.startswith("|"))
    assert table in (GOLDEN.parents[1] / "README.md").read_text("utf-8")
