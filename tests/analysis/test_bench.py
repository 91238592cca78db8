from pathlib import Path

import pytest

from analysis.report import bench
from analysis.results.load import load_results


def test_the_records_are_those_of_a_sweep(tmp_path: Path) -> None:
    bench.make_runs(tmp_path, runs=450, epochs=3)
    results = load_results(tmp_path)
    assert len(results.runs) == 450
    assert results.broken == ()
    assert set(results.runs.groupby(["task", "optimizer"])["seed"].nunique()) == {2, 3}
    assert {len(columns["step"]) for columns in results.curves.values()} == {3}


@pytest.mark.parametrize(
    ("bound", "code", "word"),
    [({}, 0, "within"), ({"SECONDS": 0.0}, 1, "exceeded"), ({"GIGABYTES": 0.0}, 1, "exceeded")],
    ids=["within", "too slow", "too large"],
)
def test_the_exit_code_tells_whether_the_bounds_hold(
    bound: dict[str, float],
    code: int,
    word: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in bound.items():
        monkeypatch.setattr(bench, name, value)
    monkeypatch.setattr(bench, "_in_child", lambda folder: (1.0, 0.5))
    assert bench.main(["--runs", "2", "--epochs", "2"]) == code
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("2 runs of 2 epochs loaded and aggregated in 1.0 s, from the cache in")
    assert line.endswith(word)


def test_a_child_measures_itself_and_not_who_started_it(tmp_path: Path) -> None:
    bench.make_runs(tmp_path, runs=1, epochs=2)
    # Linux hands the largest resident set on to whatever a process starts: this one's is not its.
    bytearray(b"1") * 600_000_000
    seconds, gigabytes = bench._in_child(str(tmp_path))
    assert seconds > 0
    assert 0.001 < gigabytes < 0.5


def test_a_number_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--runs", "0"]) == 2
    assert capsys.readouterr().err == "error: Invalid --runs: 0. Must be >= 1.\n"
