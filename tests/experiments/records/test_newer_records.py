"""A record of a newer version is refused in one line, and nothing is done to it."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.errors import UserError
from experiments.records import store
from experiments.records.schema import SCHEMA, NewerRecordError, load_run, load_runs
from tests.support.commands import exit_code
from tests.support.sweeps import sweep

LINE = f"written by a newer version: schema {SCHEMA + 1}, this one reads 1 and {SCHEMA}; update"


def newer(folder: Path) -> Path:
    folder.mkdir(parents=True)
    status = {"schema": SCHEMA + 1, "run_id": folder.name, "what it is": ["another layout"]}
    (folder / "status.json").write_text(json.dumps(status))
    (folder / "metrics.jsonl").write_text("rows of another layout\n")
    return folder


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_is_told_from_a_broken_one(tmp_path: Path) -> None:
    with pytest.raises(NewerRecordError, match=f"^a/status.json: {LINE}$"):
        load_run(newer(tmp_path / "a"))
    assert load_runs(tmp_path) == ([], [f"a/status.json: {LINE}"])


@pytest.mark.parametrize("retry", [False, True])
def test_it_is_never_set_aside(tmp_path: Path, retry: bool) -> None:
    folder = newer(tmp_path / "a")
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match=LINE):
        store.settled(store.RunFolder(tmp_path, folder.name), retry=retry, notify=pytest.fail)
    assert snapshot(tmp_path) == before


def test_a_sweep_leaves_it_and_says_so(make_config: Any, tmp_path: Path, capsys: Any) -> None:
    overrides = ["optimizer=adam", "budget=steps", "budget.steps=4", "tracking=none"]
    runs = tmp_path / "runs"
    folder = newer(runs / make_config(*overrides).run_id)
    before = snapshot(runs)

    made = sweep(runs, *overrides, "seed=0", "retry=true")
    assert made.returncode == 1
    assert f"error: {folder.name}/status.json: {LINE}" in made.stderr
    assert "sweep of 1: 1 failed (0 from before)" in made.stderr
    assert "Traceback" not in made.stderr
    assert snapshot(runs).items() >= before.items()
    assert not (runs / store.SET_ASIDE).exists()

    assert exit_code("plan", *overrides, f"runs_dir={runs}") == 0
    assert "sweep of 1: 1 newer, 0 to do" in capsys.readouterr().out
    assert exit_code("status", f"runs_dir={runs}") == 0
    assert f"newer: run {folder.name}: {folder.name}/status.json: {LINE}" in capsys.readouterr().out
    assert exit_code("train", *overrides, f"runs_dir={runs}") == 2
    assert LINE in capsys.readouterr().err
    assert snapshot(runs).items() >= before.items()
