"""Commands that a server of the tests forks: for a program, a process as `subprocess` starts it."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest

from tests.support import served, server
from tests.support.served import ROOT, Served

pytestmark = pytest.mark.skipif(not served.CAN_SERVE, reason="elsewhere subprocess starts all")

PROBE = [sys.executable, "-m", "tests.support.probe"]


@pytest.fixture
def forked(monkeypatch):
    """Run a probe by the server of the suite's commands."""
    monkeypatch.setattr(served, "package_of", lambda words: "experiments")

    def run(ends: str, **options):
        options = {"cwd": ROOT, "capture_output": True, "text": True} | options
        return served.run([*PROBE, ends], **options)

    return run


def test_a_fork_is_like_an_interpreter_of_its_own(forked, tmp_path):
    words = tmp_path / "words"
    words.write_text("größer\n", "utf-8")
    environment = os.environ | {"OF_THIS_TEST": "ü"}
    environment.pop("PYTEST_CURRENT_TEST")
    told = []
    for run in (lambda *_, **options: subprocess.run([*PROBE, "pass"], **options), forked):
        with words.open() as stdin:
            done = run(
                "pass", cwd=ROOT, capture_output=True, text=True, env=environment, stdin=stdin
            )
        assert (done.returncode, done.stderr) == (0, "told\n")
        told.append(json.loads(done.stdout))
    fresh, fork = told
    assert fork["facts"] == fresh["facts"]
    assert fork["read"] == fresh["read"] == "größer\n"


def test_what_nobody_seeds_differs(forked):
    one, another = (json.loads(forked("pass").stdout)["drawn"] for _ in range(2))
    assert all(ours != theirs for ours, theirs in zip(one, another, strict=True))


@pytest.mark.parametrize(
    ("ends", "code", "told"),
    [
        ("pass", 0, ""),
        ("sys.exit(7)", 7, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit('a line')", 1, "a line\n"),
        ("os._exit(3)", 3, ""),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt\n"),
        ("os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, ""),
        ("os.abort()", -signal.SIGABRT, ""),
        ("import atexit; atexit.register(print, 'last', file=sys.stderr)", 0, "last\n"),
        ("threading.Timer(0.2, print, ['late'], {'file': sys.stderr}).start()", 0, "late\n"),
    ],
)
def test_an_end_is_told(forked, ends, code, told):
    done = forked(ends)
    assert done.returncode == code
    assert done.stderr.endswith(told)
    assert done.stderr.startswith("told\n")
    assert ("Traceback" in done.stderr) == (told.partition(":")[0].endswith(("Error", "rupt\n")))


def test_a_command_is_ended_when_its_time_is_over(forked):
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        forked("import time; time.sleep(60)", timeout=0.3)
    assert time.monotonic() - began < 30


@pytest.mark.usefixtures("forked")
def test_a_signal_ends_it_and_several_run_side_by_side():
    both = [
        Served([*PROBE, "import time; time.sleep(60)"], cwd=ROOT, stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [process.poll() for process in both] == [None, None]
    for process in both:
        process.send_signal(signal.SIGTERM)
    assert [process.wait(30) for process in both] == [-signal.SIGTERM] * 2


def test_what_only_exec_gives_is_started_by_it(tmp_path):
    train = [sys.executable, "-m", "experiments.train"]
    assert served.is_served(train, {"cwd": ROOT, "env": {}})
    assert not served.is_served(train, {"cwd": tmp_path})
    assert not served.is_served(train, {"cwd": ROOT, "preexec_fn": print})
    assert not served.is_served([sys.executable, "-c", "pass"], {"cwd": ROOT})
    assert not served.is_served([sys.executable, "-m", "torch.distributed.run"], {"cwd": ROOT})


def test_a_library_that_reads_its_variables_when_loaded_reads_the_right_ones(forked):
    """With the number of threads, which a fork could not change any more."""
    told = [
        json.loads(forked("pass", env=os.environ | {"OMP_NUM_THREADS": count}).stdout)
        for count in ("1", "2")
    ]
    assert [facts["facts"]["torch"][0] for facts in told] == [1, 2]


@pytest.mark.parametrize("package", server.LOADED)
def test_what_a_server_is_to_load_is_there(package):
    assert all(find_spec(name) is not None for name in server.LOADED[package])
