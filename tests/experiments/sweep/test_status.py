"""Where runs stand, from records written by hand; a lock is held by a living process or by none."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.records.states import run_states
from experiments.records.store import RunFolder
from experiments.sweep import status
from tests.support import served
from tests.support.commands import exit_code

ROOT = Path(__file__).resolve().parents[3]
ENDS = {
    "done": None,
    "diverged": "loss is nan at step 3",
    "failed": "ValueError: no",
    "out_of_memory": "CUDA out of memory",
    "interrupted": "SIGTERM: stopped after step 2",
    "running": None,
}


@pytest.fixture
def write(tmp_path):
    """Write a record with a status and a seed."""

    def record(run_id, state, seed=0, reason=None, **identity):
        folder = RunFolder(tmp_path, run_id)
        folder.create()
        facts = {
            "task": "digits",
            "model": "small_cnn",
            "optimizer": "adam",
            "ruleset": "default",
            "budget": "4 steps",
            "group_id": "group",
            "metric": "accuracy_percent",
            "seed": seed,
            "higher_is_better": True,
            "protocol": {},
            **identity,
        }
        progress = {"step": 2, "total_steps": 4, "last_row_step": None}
        folder.write_status(state, reason, identity=facts, progress=progress, summary={})
        return folder

    return record


def states(folder):
    return {item.run_id: item.state for item in run_states(folder)}


def test_runs_of_several_places_are_those_in_its_folders(tmp_path, write, capsys):
    """As `report` reads them: a folder of each machine, in one folder."""
    write("a", "done", 0)
    for machine in ("one", "other"):
        (tmp_path / "all" / machine).mkdir(parents=True)
        shutil.copytree(tmp_path / "a", tmp_path / "all" / machine / f"{machine}-a")
    assert exit_code("status", f"runs_dir={tmp_path / 'all'}", "json=true") == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert sorted(run["run_id"] for run in runs) == ["one-a", "other-a"]


def test_every_state_is_told_from_the_records(tmp_path, write, capsys, monkeypatch):
    for seed, (state, reason) in enumerate(ENDS.items()):
        write(state, state, seed, reason)
    write("held", "running", 6)
    write("torn", "done", 7).write("status.json", b"{")
    (tmp_path / "no-status").mkdir()
    (tmp_path / "no-status" / "metrics.jsonl").write_text('{"step": 1}\n')
    (tmp_path / "empty").mkdir()
    for hidden in (".sweeps", ".replays"):
        (tmp_path / hidden).mkdir()
    with RunFolder(tmp_path, "held").lock(), RunFolder(tmp_path, "begins").lock():
        found = states(tmp_path)
        assert exit_code("status", f"runs_dir={tmp_path}") == 0
    assert found == {
        **{state: state for state in ENDS},
        "running": "stale",
        "held": "running",
        "begins": "running",
        "torn": "broken",
        "no-status": "broken",
    }
    told = capsys.readouterr().out.splitlines()
    assert told[0].split() == [
        *("task", "model", "optimizer", "ruleset", "budget", "group", "runs", "done", "diverged"),
        *("running", "failed", "out_of_memory", "interrupted", "stale"),
    ]
    assert told[1].split() == [
        *("digits", "small_cnn", "adam", "default", "4", "steps", "group", "7"),
        *("1",) * 7,
    ]
    assert told[2] == (
        "10 runs: 1 done, 1 diverged, 2 running, 1 failed, 1 out_of_memory, 1 interrupted, "
        "1 stale, 2 broken"
    )
    assert "  failed: digits adam seed 2 (run failed) at step 2 of 4: ValueError: no" in told
    assert "  running: run begins: it begins, without a record yet" in told
    assert sum(line.startswith("  stale: ") for line in told) == 1


def test_a_lock_outlives_no_process(tmp_path, write):
    """A process that is killed while it trains leaves a stale run, at once."""
    write("run", "running")
    program = (
        "import sys, time; from pathlib import Path\n"
        "from experiments.records.store import RunFolder\n"
        "with RunFolder(Path(sys.argv[1]), 'run').lock(): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        assert states(tmp_path) == {"run": "running"}
        process.kill()
        process.wait()
        assert states(tmp_path) == {"run": "stale"}


@pytest.mark.parametrize("word", ["--json", "json=true"])
def test_a_program_is_told_the_same(word, tmp_path, write, capsys):
    write("a" * 12, "done", 0)
    write("b" * 12, "failed", 1, "no\x1bway")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "status.json").write_text("{")
    assert exit_code("status", f"runs_dir={tmp_path}", word) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["states"] == {"done": 1, "failed": 1, "broken": 1}
    runs = {run["run_id"]: run for run in told["runs"]}
    assert runs["b" * 12]["reason"] == "no\x1bway"
    assert (runs["a" * 12]["optimizer"], runs["a" * 12]["seed"]) == ("adam", 0)
    assert (runs["c"]["state"], runs["c"]["task"]) == ("broken", None)


def test_groups_that_differ_have_lines_of_their_own(tmp_path, write):
    write("a", "done", 0)
    write("b", "failed", 1, "no")
    write("c", "done", 0, group_id="other", optimizer="sgd")
    header, *rows = status.table(run_states(tmp_path))
    assert header[-3:] == ["runs", "done", "failed"]
    assert [(row[2], *row[-3:]) for row in rows] == [
        ("adam", "2", "1", "1"),
        ("sgd", "1", "1", "-"),
    ]


def test_a_control_is_told_from_the_method_that_it_controls(tmp_path, write):
    write("a" * 12, "done")
    write("b" * 12, "failed", reason="why", control="scalar", group_id="other")
    found = list(run_states(tmp_path))
    assert [row[2] for row in status.table(found)[1:]] == ["adam", "adam control=scalar"]
    (line,) = status.remarks(found)
    assert "digits adam control=scalar seed 0 (run bbbbbbbbbbbb)" in line


def test_a_folder_without_runs_is_no_mistake_and_a_wrong_key_is(tmp_path):
    def call(argument):
        return served.run(
            [sys.executable, "-m", "experiments", "status", argument],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    empty = call(f"runs_dir={tmp_path}/none")
    assert (empty.returncode, empty.stdout) == (
        0,
        f"no runs in {tmp_path}/none, which is not there\n",
    )
    assert not (tmp_path / "none").exists()
    wrong = call("runs=x")
    assert wrong.returncode == 2
    assert wrong.stderr == "error: Unknown key: 'runs'. Did you mean: runs_dir?\n"
