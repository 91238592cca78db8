"""Studies as they are read back, and what is said of damaged ones."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.report.drawing import draw
from analysis.results.load import load_results
from analysis.results.studies import load_study, studies_digest, study_problems
from experiments.records.schema import BrokenRecordError


def write_study(runs_dir: Path, study_id: str, finished: str, **arrays: Any) -> Path:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    folder = runs_dir / ".studies" / "toy" / study_id
    folder.mkdir(parents=True)
    (folder / "arrays.npz").write_bytes(buffer.getvalue())
    described = {
        "schema": 1,
        "study": "toy",
        "study_id": study_id,
        "command": "python -m experiments study study=toy",
        "facts": {"layer": "conv1"},
        "arrays_sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
        "finished": finished,
    }
    (folder / "study.json").write_text(json.dumps(described))
    return folder


def test_of_several_the_last_finished_is_read(tmp_path: Path) -> None:
    write_study(tmp_path, "aaa", "2026-01-02T00:00:00+00:00", x=np.arange(3))
    write_study(tmp_path, "bbb", "2026-01-01T00:00:00+00:00", x=np.arange(4))
    found = load_study(tmp_path, "toy")
    assert found is not None
    assert found[0]["x"].tolist() == [0, 1, 2]
    assert found[1] == {
        "layer": "conv1",
        "study_id": "aaa",
        "command": "python -m experiments study study=toy",
    }


def test_without_a_study_there_is_none(tmp_path: Path) -> None:
    (tmp_path / ".studies" / "toy" / ".aaa.partial").mkdir(parents=True)
    (tmp_path / ".studies" / "toy" / ".aaa.partial" / "study.json").write_text("{")
    assert load_study(tmp_path, "toy") is None
    assert load_study(tmp_path / "none", "toy") is None
    assert load_study(None, "toy") is None


def test_damage_names_the_file_and_what_makes_it_again(tmp_path: Path) -> None:
    folder = write_study(tmp_path, "aaa", "2026-01-02T00:00:00+00:00", x=np.arange(3))
    content = (folder / "arrays.npz").read_bytes()
    for damaged in (content[:-9], b""):
        (folder / "arrays.npz").write_bytes(damaged)
        with pytest.raises(BrokenRecordError, match=r"toy/aaa/arrays.npz: damaged.*study=toy"):
            load_study(tmp_path, "toy")
    (folder / "arrays.npz").unlink()
    with pytest.raises(BrokenRecordError, match="damaged"):
        load_study(tmp_path, "toy")
    for text, message in (
        ("{", "not readable"),
        ("[]", "must be a mapping"),
        ('{"schema": 1}', "lacks study_id, command"),
        ('{"schema": 2}', "written by a newer version: schema 2, this one reads 1; update"),
    ):
        (folder / "study.json").write_text(text)
        with pytest.raises(BrokenRecordError, match=f"toy/aaa/study.json: .*{message}"):
            load_study(tmp_path, "toy")


def test_a_damaged_study_is_named_and_another_of_its_name_is_read(tmp_path: Path) -> None:
    write_study(tmp_path, "aaa", "2026-01-01T00:00:00+00:00", x=np.arange(3))
    newer = write_study(tmp_path, "bbb", "2026-01-02T00:00:00+00:00", x=np.arange(4))
    (newer / "study.json").write_text('{"schema": 1, "study_id": 3}')
    found = load_study(tmp_path, "toy")
    assert found is not None
    assert found[1]["study_id"] == "aaa"
    assert study_problems(tmp_path) == (
        "toy/bbb/study.json: lacks command, finished, arrays_sha256, facts",
    )


def test_pickles_are_not_read(tmp_path: Path) -> None:
    write_study(tmp_path, "aaa", "2026", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(BrokenRecordError, match="allow_pickle"):
        load_study(tmp_path, "toy")


def test_a_study_may_lie_beside_the_runs_of_one_place(tmp_path: Path) -> None:
    run = tmp_path / "there" / "some run"
    run.mkdir(parents=True)
    before = studies_digest(tmp_path)
    write_study(tmp_path / "there", "aaa", "2026", x=np.arange(3))
    assert load_study(tmp_path, "toy") is None  # no runs lie there
    (run / "status.json").touch()
    found = load_study(tmp_path, "toy")
    assert found is not None
    assert found[1]["study_id"] == "aaa"
    assert studies_digest(tmp_path) != before


def test_the_digest_changes_with_the_studies(tmp_path: Path) -> None:
    seen = {studies_digest(None), studies_digest(tmp_path)}
    assert len(seen) == 1
    folder = write_study(tmp_path, "aaa", "2026-01-02", x=np.arange(3))
    seen.add(studies_digest(tmp_path))
    write_study(tmp_path, "bbb", "2026-01-02", x=np.arange(3))
    seen.add(studies_digest(tmp_path))
    (folder / "arrays.npz").unlink()
    seen.add(studies_digest(tmp_path))
    assert len(seen) == 4


def test_a_new_study_draws_its_figure_again(tmp_path: Path) -> None:
    runs_dir, out = tmp_path / "runs", tmp_path / "out"
    runs_dir.mkdir()
    first = draw("eigenvalue_spectra", load_results(runs_dir), out)
    folder = runs_dir / ".studies" / "kronecker" / "aaa"
    folder.mkdir(parents=True)
    (folder / "study.json").write_text("{")
    second = draw("eigenvalue_spectra", load_results(runs_dir), out)
    assert first.problem is None
    assert second.problem is not None
    assert "kronecker/aaa/study.json: not readable as JSON" in second.problem
