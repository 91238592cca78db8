"""Runs that are forked from a process that has loaded everything: as good as interpreters each."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments.config import commandline
from experiments.records.schema import load_runs
from experiments.sweep import forks, forkserver
from tests.support.sweeps import ROOT, command, measurements, sweep
from tests.support.telling import FILE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each run is started")

SHORT = ["budget=steps", "budget.steps=6"]
TELLING = ["optimizer=sgd", "task._target_=tests.support.telling.build", *SHORT]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What three runs of one sweep say of their processes; SIGHUP is ignored, as by `nohup`."""
    folder = tmp_path_factory.mktemp("told")
    result = sweep(
        folder / "runs",
        *TELLING,
        "seed=0,1,2",
        "threads=1",
        env=os.environ | {FILE: str(folder / "facts"), "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert result.returncode == 0, result.stderr
    runs, _ = load_runs(folder / "runs")
    started = [json.loads((run.path / "environment.json").read_text())["started"] for run in runs]
    assert started == ["forked"] * 3
    return [json.loads(line) for line in (folder / "facts").read_text().splitlines()]


def test_each_run_is_a_process_of_its_own(told):
    assert len({facts["pid"] for facts in told}) == 3
    assert [facts["left"] for facts in told] == [None] * 3
    assert [len(facts["arguments"]) for facts in told] == [1] * 3


def test_a_run_has_one_thread_and_no_end_of_the_channel(told):
    assert {facts["threads"] for facts in told} == {1}
    assert [facts["sockets"] for facts in told] == [[]] * 3
    assert {facts["stdin"] for facts in told} == {"/dev/null"}


def test_cuda_can_be_initialised_in_a_run(told):
    assert {facts["cuda is lost"] for facts in told} == {False}


def test_signals_are_as_the_sweep_found_them(told):
    assert {facts["hangup is ignored"] for facts in told} == {True}
    assert {facts["blocked"] for facts in told} == {0}


def test_what_nobody_seeds_differs(told):
    torch_seeds, numpy_draws = zip(*(facts["unseeded"] for facts in told), strict=True)
    assert len(set(torch_seeds)) == len(set(numpy_draws)) == 3


@pytest.mark.parametrize(
    "task", ["digits", pytest.param("tinyshakespeare", marks=pytest.mark.slow)]
)
def test_each_method_trains_as_in_an_interpreter_of_its_own(tmp_path, task):
    quick = ["adafisher", "adamw", "kfac"]
    methods = quick if task == "digits" else commandline.choices("optimizer")
    chosen = [f"task={task}", f"optimizer={','.join(methods)}", *SHORT, "threads=1"]
    for name in ("forked", "fresh"):
        runs = tmp_path / name
        fresh = f"fresh={str(name == 'fresh').lower()}"
        result = sweep(runs, *chosen, fresh, run=subprocess.run)
        assert result.returncode == 0, result.stderr
    rows = measurements(tmp_path / "forked")
    assert len(rows) == len(methods)
    assert rows == measurements(tmp_path / "fresh")


def test_two_threads_come_to_an_end_and_to_the_same(tmp_path):
    chosen = ["optimizer=adam", "model=resnet18", "budget=steps", "budget.steps=2", "threads=2"]
    rows, started = [], []
    for fresh in ("true", "false"):
        result = sweep(tmp_path / fresh, *chosen, f"fresh={fresh}", timeout=300, run=subprocess.run)
        assert result.returncode == 0, result.stderr
        rows.append(measurements(tmp_path / fresh))
        (run,), _ = load_runs(tmp_path / fresh)
        started.append(json.loads((run.path / "environment.json").read_text())["started"])
    assert started == ["fresh", "forked"]
    assert rows[0] == rows[1]


def test_a_closed_standard_output_ends_nothing(tmp_path):
    line = " ".join([*command(tmp_path, "optimizer=sgd", *SHORT), ">&-"])
    done = subprocess.run(line, shell=True, cwd=ROOT, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.slow
def test_a_record_names_the_code_that_ran_though_it_is_edited_meanwhile(tmp_path):
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    runs = tmp_path / "runs"
    with subprocess.Popen(
        command(runs, "optimizer=sgd", "seed=0,1", "budget.epochs=20"),
        cwd=clone,
        env=os.environ | {"PYTHONPATH": str(clone)},
        stderr=subprocess.DEVNULL,
    ) as process:
        while not list(runs.glob("*/metrics.jsonl")):
            assert process.poll() is None
        with (clone / "experiments" / "engine" / "loop.py").open("a") as loop:
            loop.write("# edited\n")
    codes = [json.loads(path.read_text())["code"] for path in runs.glob("*/environment.json")]
    assert len(codes) == 2
    assert [code["uncommitted_changes"] for code in codes] == [False, False]


@pytest.fixture
def killed_server():
    """A run whose server has told of it and was killed, and the process that it is."""
    servers = forks._Servers()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with subprocess.Popen(["sleep", "60"]) as run, subprocess.Popen(["true"]) as dead, ours:
        servers.server = SimpleNamespace(channel=ours, end=lambda at_once: dead.wait())
        forked = forks.Forked(servers, servers.server, Path("request"), {})
        theirs.send(json.dumps({"pid": run.pid}).encode())
        theirs.close()
        yield forked, run
        run.kill()


def test_a_run_that_outlives_its_server_is_waited_for_no_longer_than_asked(killed_server):
    forked, run = killed_server
    with pytest.raises(subprocess.TimeoutExpired):
        forked.wait(0.2)
    forked.kill()
    assert forked.wait(10) == -signal.SIGTERM
    assert run.wait() == -signal.SIGKILL


def test_a_system_without_descriptors_of_processes_is_told(monkeypatch):
    def refuse(number):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert "no descriptors of processes (Function not implemented)" in forkserver._unfit()


@pytest.mark.parametrize(
    ("does", "why"),
    [
        ("pass", None),
        ("torch.cuda.is_available()", "a module that it loads looks at CUDA"),
        ("import subprocess; subprocess.Popen(['sleep', '1'])", "starts a process"),
        ("import threading; threading.Timer(60, print).start()", "starts a thread"),
    ],
    ids=["nothing", "a look at CUDA", "a process", "a thread"],
)
def test_a_server_refuses_to_fork_what_would_be_crippled(does, why):
    """Each is what some module does when it is imported."""
    program = f"import os, torch; from experiments.sweep import forkserver; {does}; "
    program += "print(forkserver._unfit(), flush=True); os._exit(0)"
    told = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.strip()
    assert told == "None" if why is None else why in told
