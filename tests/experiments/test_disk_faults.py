"""What the system refuses of a user's files is one line, whatever the reason; a bug shows where."""

import errno
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import experiments
from experiments.engine.loop import Trainer
from experiments.errors import refusal
from experiments.run import attempt
from tests.support.commands import exit_code
from tests.support.sweeps import ROOT, sweep

SHORT = ["task=digits", "optimizer=adam", "budget=epochs", "budget.epochs=3", "tracking=none"]
NAMED = [
    *("EACCES", "EDQUOT", "EEXIST", "EFBIG", "EIO", "EISDIR", "ELOOP", "EMFILE", "ENAMETOOLONG"),
    *("ENOENT", "ENOSPC", "ENOTDIR", "ENOTEMPTY", "EPERM", "EROFS", "ESTALE", "ETXTBSY", "EXDEV"),
]


@pytest.mark.parametrize("name", NAMED)
def test_a_file_of_the_users_is_a_line(name: str, tmp_path: Path) -> None:
    number = getattr(errno, name)
    for path in (str(tmp_path / "x"), os.fsencode(tmp_path / "x"), str(ROOT / "runs" / "x")):
        line = refusal(OSError(number, os.strerror(number), path))
        assert line is not None
        assert f"cannot read or write {os.fsdecode(path)}: {os.strerror(number)}. " in line


@pytest.mark.parametrize("name", ["EDQUOT", "EFBIG", "EIO", "ENOSPC", "EROFS"])
def test_a_write_need_not_say_its_file(name: str) -> None:
    number = getattr(errno, name)
    line = refusal(OSError(number, os.strerror(number)))
    assert line is not None
    assert line.startswith(f"cannot read or write: {os.strerror(number)}. ")


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file", str(Path(experiments.__file__) / "no.py")),
        FileNotFoundError(errno.ENOENT, "No such file", str(Path(os.__file__).parent / "no.py")),
        FileNotFoundError(errno.ENOENT, "No such file", str(Path(pytest.__file__).parent / "no")),
        FileNotFoundError(errno.ENOENT, "No such file"),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        ProcessLookupError(errno.ESRCH, "No such process"),
        OSError("no number"),
        ValueError("of the code"),
    ],
    ids=repr,
)
def test_a_fault_of_the_code_is_none(error: Exception) -> None:
    assert refusal(error) is None


def a_file(folder: Path) -> Path:
    folder.write_text("mine")
    return folder


def a_loop(folder: Path) -> Path:
    folder.symlink_to(folder)
    return folder


def a_long_name(folder: Path) -> Path:
    return folder / ("x" * 300)


def a_lock_that_is_a_folder(folder: Path) -> Path:
    (folder / ".locks").mkdir(parents=True)
    (folder / ".locks").rmdir()
    (folder / ".locks").write_text("mine")
    return folder


PLACES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "EEXIST": (a_file, "It is a file; must be a folder"),
    "ELOOP": (a_loop, "Too many levels of symbolic links|File exists"),
    "ENAMETOOLONG": (a_long_name, "File name too long"),
    "EEXIST of locks": (a_lock_that_is_a_folder, "File exists"),
}


@pytest.mark.parametrize(("place", "said"), PLACES.values(), ids=PLACES.keys())
def test_a_folder_that_cannot_be_used_is_a_line(
    tmp_path: Path, capfd: Any, place: Callable[[Path], Path], said: str
) -> None:
    folder = place(tmp_path / "runs")
    assert exit_code("train", *SHORT, f"runs_dir={folder}") == 2
    one_line(capfd.readouterr().err, said)


def one_line(errors: str, said: str) -> None:
    lines = [line for line in errors.splitlines() if "error: " in line]
    assert len(lines) == 1
    assert "Traceback" not in errors
    assert any(f"{part}." in lines[0] for part in said.split("|"))


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


def gone_with_all(folder: Path) -> None:
    shutil.rmtree(folder.parent)


def rows_are_a_folder(folder: Path) -> None:
    (folder / "metrics.jsonl").unlink()
    (folder / "metrics.jsonl").mkdir()


def status_is_a_folder(folder: Path) -> None:
    (folder / "status.json").unlink()
    (folder / "status.json").mkdir()


def folder_is_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("mine")


def folder_is_a_loop(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(folder)


def files_are_limited(folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


MIDWAY: dict[str, tuple[Callable[[Path], None], str]] = {
    "ENOENT": (gone, "No such file or directory"),
    "ENOENT of all": (gone_with_all, "No such file or directory"),
    "EISDIR of rows": (rows_are_a_folder, "Is a directory"),
    "EISDIR of a status": (status_is_a_folder, "Is a directory"),
    "ENOTDIR": (folder_is_a_file, "Not a directory"),
    "ELOOP": (folder_is_a_loop, "Too many levels of symbolic links"),
    "EFBIG": (files_are_limited, "File too large"),
}


@pytest.fixture
def limits() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize(("happens", "said"), MIDWAY.values(), ids=MIDWAY.keys())
def test_what_happens_to_a_run_folder_midway_is_a_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: Any,
    happens: Callable[[Path], None],
    said: str,
) -> None:
    """After the first evaluation, so that something is recorded."""
    runs, plain = tmp_path / "runs", Trainer._step
    done: list[Path] = []

    def step(trainer: Any, *arguments: Any) -> Any:
        found = [path.parent for path in runs.glob("*/checkpoint.pt")]
        if found and not done:
            done.append(found[0])
            happens(found[0])
        return plain(trainer, *arguments)

    monkeypatch.setattr(Trainer, "_step", step)
    monkeypatch.setattr(attempt, "SECONDS_TO_LOSE", 0.0)
    assert exit_code("train", *SHORT, f"runs_dir={runs}") == 2
    assert done
    one_line(capfd.readouterr().err, f"{said}. What is already recorded is kept")


def test_a_sweep_tells_of_a_folder_that_goes_midway(tmp_path: Path) -> None:
    """The folders of the sweep and of all its runs: a line each, and no run counts as done."""
    runs = tmp_path / "runs"
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import shutil, sys, threading, time\n"
        "def go():\n"
        f"    from pathlib import Path\n    runs = Path({str(runs)!r})\n"
        "    while not list(runs.glob('*/metrics.jsonl')): time.sleep(0.01)\n"
        "    shutil.rmtree(runs, ignore_errors=True)\n"
        "if 'experiments.sweep.child' in ' '.join(sys.orig_argv):\n"
        "    threading.Thread(target=go, daemon=True).start()\n"
    )
    variables = {**os.environ, "PYTHONPATH": f"{hook}{os.pathsep}{ROOT}"}
    made = sweep(runs, *SHORT[1:], "budget.epochs=60", "seed=0", "fresh=true", env=variables)
    assert made.returncode == 1
    assert "Traceback" not in made.stderr
    assert "cannot read or write" in made.stderr
    assert "1 done" not in made.stderr
