import errno
import os
import subprocess
import sys
import threading

import pytest

from experiments.records import store
from experiments.records.schema import METRICS_FILE, BrokenRecordError, read_rows
from experiments.records.store import RunFolder, write_atomic

IDENTITY = {
    "task": "digits",
    "model": "small_cnn",
    "optimizer": "adam",
    "ruleset": "default",
    "budget": "1 epochs",
    "seed": 0,
    "group_id": "g",
    "metric": "accuracy_percent",
    "higher_is_better": True,
    "protocol": {},
}


@pytest.fixture
def folder(tmp_path):
    run = RunFolder(tmp_path, "abc")
    run.create()
    return run


def write_status(folder, status, last_row_step=None):
    folder.write_status(status, identity=IDENTITY, progress={"last_row_step": last_row_step})


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "status.json"
    write_atomic(path, b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomic(path, b"new")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["status.json"]


def test_rows_beyond_the_checkpoint_are_cut_with_a_half_line(folder):
    write_status(folder, "running")
    for step in (1, 2, 3):
        folder.append_row({"step": step})
    with (folder.path / METRICS_FILE).open("a") as handle:
        handle.write('{"step": 4, "los')
    assert folder.cut_rows(2) == [{"step": 1}, {"step": 2}]
    assert read_rows(folder.path / METRICS_FILE)[0] == [{"step": 1}, {"step": 2}]
    folder.append_row({"step": 3})
    assert [row["step"] for row in read_rows(folder.path / METRICS_FILE)[0]] == [1, 2, 3]


def test_no_record_yet(tmp_path):
    assert RunFolder(tmp_path, "none").read() is None


def test_a_folder_without_status_but_with_rows_is_broken(folder):
    folder.append_row({"step": 1})
    with pytest.raises(BrokenRecordError, match=r"status\.json: missing"):
        folder.read()


def test_a_finished_run_without_its_last_row_is_broken(folder):
    folder.append_row({"step": 1})
    write_status(folder, "done", last_row_step=2)
    with pytest.raises(BrokenRecordError, match="rows of a finished run are missing"):
        folder.read()


def test_the_record_of_another_run_is_broken(folder):
    write_status(RunFolder(folder.runs_dir, "abc"), "running")
    folder.path.rename(folder.runs_dir / "def")
    with pytest.raises(BrokenRecordError, match="belongs to run abc"):
        RunFolder(folder.runs_dir, "def").read()


def test_setting_aside_keeps_everything(folder):
    folder.append_row({"step": 1})
    first = folder.set_aside()
    folder.create()
    folder.append_row({"step": 2})
    second = folder.set_aside()
    assert read_rows(first / METRICS_FILE)[0] == [{"step": 1}]
    assert read_rows(second / METRICS_FILE)[0] == [{"step": 2}]
    assert not folder.path.exists()


@pytest.mark.parametrize(
    ("status", "retry", "over"),
    [
        ("done", False, True),
        ("done", True, True),
        ("diverged", True, True),
        ("failed", False, True),
        ("failed", True, False),
        ("out_of_memory", False, True),
        ("out_of_memory", True, False),
        ("interrupted", False, False),
        ("running", False, False),
    ],
)
def test_which_runs_are_over(folder, status, retry, over):
    write_status(folder, status)
    assert (store.settled(folder, retry=retry, notify=pytest.fail) is not None) == over


def test_a_second_holder_waits(folder):
    order = []
    waiting = threading.Event()

    def second():
        with RunFolder(folder.runs_dir, "abc").lock(on_wait=waiting.set):
            order.append("second")

    with folder.lock():
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        assert folder.is_locked()
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert not folder.is_locked()


def test_the_lock_of_a_killed_process_is_free(folder):
    code = (
        "import os, pathlib, signal\n"
        "from experiments.records.store import RunFolder\n"
        f"with RunFolder(pathlib.Path({str(folder.runs_dir)!r}), 'abc').lock():\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert not folder.is_locked()
