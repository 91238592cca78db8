"""The markers that are set by what a test does, on a suite of one test of each kind."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import costs

ROOT = Path(__file__).resolve().parents[1]
CONFTEST = """
from pathlib import Path
from tests.support import costs

def pytest_addoption(parser):
    costs.add_options(parser)

def pytest_configure(config):
    config.pluginmanager.register(costs.Costs(config, Path(__file__).with_name("costs.txt")))
"""
SUITE = """
import multiprocessing, os, subprocess, sys, threading, time
import pytest, torch

def start():
    subprocess.run([sys.executable, "-c", ""], check=True)

@pytest.mark.parametrize("number", [1, 2])
def test_plain(number):
    pass

def test_starts_one():
    start()

def test_starts_one_and_would_catch_all():
    try:
        start()
    except Exception:
        pass

def test_starts_one_in_a_thread():
    done = []
    thread = threading.Thread(target=lambda: done.append(start()))
    thread.start()
    thread.join()
    assert done

@pytest.fixture(scope="module")
def started():
    start()

def test_has_a_fixture_that_starts_one(started):
    pass

def test_forks():
    if not (child := os.fork()):
        os._exit(0)
    os.waitpid(child, 0)

def test_spawns():
    process = multiprocessing.get_context("spawn").Process(target=print)
    process.start()
    process.join()

def test_compiles():
    assert torch.compile(str)(1) == "1"

@pytest.mark.parametrize("seconds", [0.0, 0.5])
def test_long(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
"""
TORCH = """
def compile(function):
    return function
"""  # which is all that the plugin knows of it, and loads at once
COSTS = """\
fixture:started process
test_compiles compiles long
test_forks process
test_has_a_fixture_that_starts_one process
test_long long
test_spawns long process
test_starts_one process
test_starts_one_and_would_catch_all process
test_starts_one_in_a_thread process
"""


def run(folder: Path, *options: str) -> list[str]:
    """Run the suite; returns the lines of its output."""
    ignored = ("-W", "ignore::pytest.PytestUnhandledThreadExceptionWarning")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *ignored, *options],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "torch.py").write_text(TORCH)
    return tmp_path


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "two"])
def test_quick_starts_nothing_that_it_has_not_seen_before(suite: Path, workers: list[str]) -> None:
    told = run(suite, "--quick", *workers)
    assert told[-1].startswith("4 passed, 7 skipped")
    assert sum("Skipped: starts a process" in line or "starts a process" in line for line in told)
    assert "not in costs.txt (--renew-costs): test_compiles compiles by torch.compile" in told


def test_what_was_seen_is_kept_and_left_out(suite: Path) -> None:
    known = suite / "costs.txt"
    known.write_text("test_long process\ntest_elsewhere long\n")
    run(suite, "--renew-costs", "-n", "2")
    kept = costs.read(known)
    assert kept.pop("test_elsewhere") == ("long",)  # of a file that did not run
    # A busy machine may take long for any of them.
    kept = {name: [k for k in kinds if k != "long"] for name, kinds in kept.items()}
    wanted = [line.split() for line in COSTS.splitlines()]
    wanted_kinds = {name: [k for k in kinds if k != "long"] for name, *kinds in wanted}
    assert {name: kinds for name, kinds in kept.items() if kinds} == {
        name: kinds for name, kinds in wanted_kinds.items() if kinds
    }
    assert "long" in costs.read(known)["test_long"]

    known.write_text(COSTS)
    assert run(suite, "--quick")[-1].startswith("2 passed, 9 deselected")
    assert run(suite, "-m", "compiles")[-1].startswith("1 passed, 10 deselected")
    # It goes by the name, wherever the test is.
    (suite / "test_suite.py").rename(suite / "test_moved.py")
    assert run(suite, "--quick")[-1].startswith("2 passed, 9 deselected")


def test_no_line_of_the_file_is_of_another_kind() -> None:
    known = costs.read(Path(costs.__file__).with_suffix(".txt"))
    assert len(known) > 100
    assert {kind for kinds in known.values() for kind in kinds} == set(costs.KINDS)
