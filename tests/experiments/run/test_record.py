import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments.records.schema import (
    BrokenRecordError,
    final_and_best,
    load_run,
    load_runs,
    read_rows,
    roots,
)

IDENTITY = {
    "task": "digits",
    "model": "small_cnn",
    "optimizer": "adam",
    "ruleset": "tuned",
    "budget": "2 epochs",
    "seed": 0,
    "group_id": "g",
    "metric": "accuracy_percent",
    "higher_is_better": True,
}


def write(folder: Path, metrics: str | None = None, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    status = {"schema": 1, "run_id": folder.name, "status": "done", "identity": IDENTITY, **changes}
    (folder / "status.json").write_text(json.dumps(status))
    if metrics is not None:
        (folder / "metrics.jsonl").write_text(metrics)
    return folder


def test_a_record_comes_back_as_written(tmp_path: Path) -> None:
    progress, summary = {"step": 4}, {"parameters": 7}
    folder = write(tmp_path / "a", '{"step": 2}\n{"step": 4}\n', progress=progress, summary=summary)

    run = load_run(folder)

    assert (run.run_id, run.path, run.status, run.reason) == ("a", folder, "done", None)
    assert (run.identity, run.progress, run.summary) == (IDENTITY, progress, summary)
    assert run.rows == [{"step": 2}, {"step": 4}]
    assert run.problem is None


@pytest.mark.parametrize(
    "half", ['{"step": 4, "ep', '{"step": 4, "ep\n', "4\n"], ids=["cut", "newline", "not a dict"]
)
def test_a_half_written_last_line_is_dropped_and_said(tmp_path: Path, half: str) -> None:
    folder = write(tmp_path / "a", '{"step": 2}\n' + half)

    assert read_rows(folder / "metrics.jsonl") == ([{"step": 2}], True)
    assert "half-written last row" in (load_run(folder).problem or "")


def test_a_last_line_that_only_lacks_its_newline_counts(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", '{"step": 2}\n{"step": 4}')

    assert [row["step"] for row in load_run(folder).rows] == [2, 4]
    assert load_run(folder).problem is None


def test_a_run_that_failed_before_its_first_row_has_no_rows(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", None, status="failed", reason="no memory")

    assert load_run(folder).rows == []
    assert load_run(folder).reason == "no memory"


def test_non_finite_numbers_are_read(tmp_path: Path) -> None:
    text = '{"step": 1, "train_loss": NaN}\n{"step": 2, "train_loss": Infinity}\n'
    rows = load_run(write(tmp_path / "a", text)).rows

    assert rows[0]["train_loss"] != rows[0]["train_loss"]
    assert rows[1]["train_loss"] == float("inf")


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "newer schema": (
        {"schema": 3},
        "written by a newer version: schema 3, this one reads 1 and 2; update",
    ),
    "no protocol": ({"schema": 2}, "lacks identity.protocol"),
    "unknown status": ({"status": "finished"}, 'status is "finished", must be one of: done, '),
    "no identity": ({"identity": None}, "identity is null, must be a mapping"),
    "no task": ({"identity": {}}, "lacks identity.task, identity.model, "),
    "no group": (
        {"identity": {**IDENTITY, "group_id": None}},
        "identity.group_id is null, must be text",
    ),
    "a number for a name": (
        {"identity": {**IDENTITY, "task": 5}},
        "identity.task is 5, must be text",
    ),
    "a word for a seed": (
        {"identity": {**IDENTITY, "seed": "one"}},
        'identity.seed is "one", must be a whole number',
    ),
    "a list of hyperparameters": (
        {"identity": {**IDENTITY, "hyperparameters": [1]}},
        "identity.hyperparameters is .1., must be a mapping",
    ),
    "no run id": ({"run_id": None}, "run_id is null, must be a name"),
}


@pytest.mark.parametrize(("changes", "says"), BROKEN.values(), ids=BROKEN.keys())
def test_a_status_that_cannot_be_used_says_why(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    folder = write(tmp_path / "a", "", **changes)

    with pytest.raises(BrokenRecordError, match=rf"^a/status\.json: .*{says}"):
        load_run(folder)


def test_broken_records_are_skipped_and_named_and_the_rest_is_read(tmp_path: Path) -> None:
    write(tmp_path / "b", "")
    write(tmp_path / "a", "")
    write(tmp_path / "rows", '{"step": 1}\nnonsense\n{"step": 2}\n')
    write(tmp_path / "cut", "")
    (tmp_path / "cut" / "status.json").write_text('{"schema": 1, "run')
    (tmp_path / "bytes").mkdir()
    (tmp_path / "bytes" / "status.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty").mkdir()

    runs, broken = load_runs(tmp_path)

    assert [run.run_id for run in runs] == ["a", "b"]
    named = sorted(line.split(":")[0] for line in broken)
    assert named == [
        "bytes/status.json",
        "cut/status.json",
        "empty/status.json",
        "rows/metrics.jsonl",
    ]
    assert all("\n" not in line for line in broken)


def test_hidden_entries_and_files_are_no_runs(tmp_path: Path) -> None:
    write(tmp_path / "a", "")
    (tmp_path / ".sweeps").mkdir()
    (tmp_path / "notes.txt").write_text("mine")

    runs, broken = load_runs(tmp_path)

    assert [run.run_id for run in runs] == ["a"]
    assert broken == []


def test_a_copied_record_counts_once(tmp_path: Path) -> None:
    write(tmp_path / "a", "")
    write(tmp_path / "a-copy", "", run_id="a")

    runs, broken = load_runs(tmp_path)

    assert len(runs) == 1
    assert broken == ["a-copy: the same run as a (a)"]


def test_runs_of_several_places_lie_in_a_folder_each(tmp_path: Path) -> None:
    write(tmp_path / "here" / "b", "")
    write(tmp_path / "here" / "b" / "kept" / "c", "")  # a part of the record
    write(tmp_path / "there" / "a", "")
    write(tmp_path / "there" / "b-copy", "", run_id="b")
    write(tmp_path / "there" / ".tuning" / "d", "")
    (tmp_path / "there" / "empty").mkdir()
    write(tmp_path / "e", "")

    runs, broken = load_runs(tmp_path)

    assert [run.run_id for run in runs] == ["e", "b", "a"]
    copied, empty = broken
    assert copied == "there/b-copy: the same run as here/b (b)"
    assert empty.startswith("empty/status.json: ")
    assert roots(tmp_path) == [tmp_path, tmp_path / "here", tmp_path / "there"]


def test_a_folder_that_does_not_exist_holds_no_runs(tmp_path: Path) -> None:
    assert load_runs(tmp_path / "none") == ([], [])


def row(epoch: int, test: float | None, validation: float | None = None) -> dict[str, Any]:
    columns = {"epoch": epoch, "test_m": test}
    return columns if validation is None else columns | {"validation_m": validation}


REDUCED: dict[str, tuple[list[dict[str, Any]], bool, tuple[float | None, ...]]] = {
    "last row without validation": ([row(1, 9.0), row(2, 7.0)], True, (7.0, 9.0, 2.0)),
    "best on validation": ([row(1, 5.0, 8.0), row(2, 9.0, 7.0)], True, (5.0, 9.0, 1.0)),
    "earliest on ties": ([row(1, 5.0, 8.0), row(2, 6.0, 8.0)], True, (5.0, 6.0, 1.0)),
    "lower is better": ([row(1, 5.0, 3.0), row(2, 6.0, 2.0)], False, (6.0, 5.0, 2.0)),
    "ties, lower is better": ([row(1, 5.0, 2.0), row(2, 4.0, 2.0)], False, (5.0, 4.0, 1.0)),
    "not a number is never best": (
        [row(1, float("nan"), float("nan")), row(2, 4.0, 2.0), row(3, 9.0, float("inf"))],
        True,
        (4.0, 9.0, 2.0),
    ),
    "nothing finite on validation": ([row(1, 5.0, float("nan"))], True, (None, 5.0, None)),
    "test was looked at now and then": (
        [row(1, 5.0, 8.0), {"epoch": 2, "validation_m": 7.0}, row(3, 4.0, 6.0)],
        True,
        (5.0, None, 1.0),
    ),
    "no rows": ([], True, (None, None, None)),
}


@pytest.mark.parametrize(("rows", "higher", "expected"), REDUCED.values(), ids=REDUCED.keys())
def test_final_and_best(
    rows: list[dict[str, Any]], higher: bool, expected: tuple[float | None, ...]
) -> None:
    assert tuple(final_and_best(rows, "m", higher).values()) == expected


def test_only_the_standard_library_is_imported() -> None:
    code = "import sys, experiments.records.schema; print(*{n.split('.')[0] for n in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=Path(__file__).parents[3],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert set(loaded.split()) - set(sys.stdlib_module_names) <= {"experiments", "__main__"}
