"""`launcher=ray launcher.address=auto`: a sweep on the nodes of a Ray cluster that runs already."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from experiments.errors import UserError
from experiments.sweep import launchers, ray_launcher
from tests.support.sweeps import (
    ROOT,
    children_of,
    finished,
    kin,
    measurements,
    start,
    statuses,
    sweep,
    wait_for_rows,
    wait_until,
)

SHORT = ["optimizer=adam", "seed=0,1", "budget=steps", "budget.steps=3", "threads=1"]
LONG = ["optimizer=adam", "seed=range(0,6)", "budget.epochs=40", "threads=1"]
DEFAULTS = {"address": "local", "cpus": 1, "gpus": 0}
JOINED = ["launcher=ray", "launcher.address=auto", "jobs=2"]


class ClusterOfTwo:
    """The cluster of a process of ``tests.support.ray_cluster``."""

    def __init__(self, process):
        self._process = process
        self.address, raylet = self._told().split()
        self.raylet = int(raylet)

    def lose_a_node(self):
        self._process.stdin.write("lose\n")
        self._process.stdin.flush()
        assert self._told() == "lost"

    def _told(self):
        return self._process.stdout.readline().strip()


@pytest.fixture
def cluster(monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    command = [sys.executable, "-m", "tests.support.ray_cluster"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        made = ClusterOfTwo(process)
        monkeypatch.setenv("RAY_ADDRESS", made.address)  # of several on a machine, this is `auto`
        yield made
        process.communicate(timeout=60)


def test_a_sweep_joins_the_cluster_that_runs(tmp_path, cluster):
    result = sweep(tmp_path, *SHORT, *JOINED, "launcher.cpus=0.5")
    assert result.returncode == 0, result.stderr
    assert "sweep of 2: 2 done (0 from before)" in result.stderr
    assert statuses(tmp_path) == ["done", "done"]


@pytest.mark.slow
def test_a_node_that_is_lost_loses_no_run_and_ends_no_other(tmp_path, cluster):
    assert sweep(tmp_path / "alone", *LONG).returncode == 0
    runs = tmp_path / "runs"
    process = start(runs, *LONG, *JOINED, "runs_per_job=2")
    wait_until(lambda: len(finished(runs)) >= 2, process)
    workers = kin(cluster.raylet)
    wait_until(lambda: any(kin(worker) for worker in workers), process)  # one trains there
    before = finished(runs)
    cluster.lose_a_node()
    _, told = process.communicate(timeout=240)
    assert process.returncode == 0, told
    assert "sweep of 6: 6 done (0 from before)" in told
    assert {name: finished(runs)[name] for name in before} == before
    assert measurements(runs) == measurements(tmp_path / "alone")
    assert children_of(runs) == []


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL], ids=lambda sent: sent.name)
def test_runs_on_a_cluster_end_with_the_sweep_that_asked_for_them(tmp_path, cluster, sent):
    process = start(tmp_path, *LONG, *JOINED)
    wait_for_rows(tmp_path, 5, process)
    assert children_of(tmp_path)
    os.kill(process.pid, sent)
    _, told = process.communicate(timeout=120)
    assert process.returncode == (130 if sent == signal.SIGINT else -sent), told
    deadline = time.monotonic() + 60
    while children_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert children_of(tmp_path) == []
    if sent == signal.SIGINT:  # a worker whose driver is gone is killed by Ray, and its run with it
        assert set(statuses(tmp_path)) == {"interrupted"}
    result = sweep(tmp_path, *LONG, *JOINED)
    assert result.returncode == 0, result.stderr
    assert set(statuses(tmp_path)) == {"done"}


class StandIn:
    """In place of the module `ray`: a task ends when it is waited for; every second one dies."""

    class exceptions:  # noqa: N801
        RayError = ConnectionResetError

    __spec__ = "a module that is there"

    def __init__(self):
        self.initialised, self.options, self.started, self.most = [], {}, 0, 0
        self.running, self.results = set(), {}
        self.resources = [{"CPU": 4.0}, {"CPU": 8.0, "GPU": 1.0}]

    def init(self, **options):
        self.initialised.append(options)

    def shutdown(self):
        pass

    def nodes(self):
        return [{"Resources": one, "Alive": True} for one in self.resources]

    def put(self, value):
        return value

    def remote(self, **options):
        self.options = options
        return lambda function: SimpleNamespace(remote=self._start)

    def _start(self, shared, overrides, number):
        self.started += 1
        self.running.add(number)
        self.most = max(self.most, len(self.running))
        self.results[number] = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
        return number

    def wait(self, references, timeout):
        self.running.remove(references[-1])
        return references[-1:], references[:-1]

    def get(self, reference):
        if reference % 2:
            raise ConnectionResetError("the node is lost")
        return self.results[reference]


@pytest.fixture
def ray(monkeypatch):
    made = StandIn()
    monkeypatch.setitem(sys.modules, "ray", made)
    return made


def launched(tmp_path, **options):
    launcher = ray_launcher.RayLauncher(**{"n_jobs": 2, **DEFAULTS, **options})
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    launcher.setup(hydra_context=None, task_function=None, config=config)  # type: ignore[arg-type]
    return launcher.launch([[f"numbers={number}"] for number in range(5)], 0)


def test_a_cluster_decides_where_jobs_run_and_at_most_so_many_do(tmp_path, ray):
    results = launched(tmp_path, address="auto", cpus=3, gpus=1)
    (options,) = ray.initialised
    assert options["address"] == "auto"
    assert not any(key.startswith(("num_", "object_store")) for key in options)
    assert (ray.options["num_cpus"], ray.options["num_gpus"]) == (3, 1)
    assert ray.options["max_retries"] > 0
    assert (ray.started, ray.most) == (5, 2)
    dead = [result.status == JobStatus.UNKNOWN for result in results]
    assert dead == [False, True, False, True, False]
    assert [result.overrides for result in results[::2]] == [[f"numbers={n}"] for n in (0, 2, 4)]


def test_a_ray_of_our_own_has_room_for_the_jobs(tmp_path, ray):
    launched(tmp_path, n_jobs=3)
    (options,) = ray.initialised
    assert (options["address"], options["num_cpus"]) == ("local", 3)
    assert ray.options["num_cpus"] == 1
    assert ray.most == 3


def test_a_job_has_the_cores_that_it_takes_of_a_node(ray, capsys):
    typed = ["launcher=ray", "hydra.launcher.address=auto", "hydra.launcher.cpus=3", "jobs=2"]
    traits = launchers.traits(launchers.compose(typed))
    assert traits == launchers.LauncherTraits(parallel=None, shows_jobs=False, cores_each=3)
    assert capsys.readouterr().err == ""
    launchers.traits(launchers.compose([*typed, "hydra.launcher.gpus=2"]))
    assert capsys.readouterr().err == (
        "warning: no node of the Ray cluster has 3 CPUs and 2 GPUs (launcher.cpus, launcher.gpus): "
        "the jobs wait for one\n"
    )


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ({"address": "head"}, r"Invalid launcher\.address: 'head'\. Must be local, auto or HOST:P"),
        ({"address": "ray://a:1"}, r"Invalid launcher\.address: 'ray://a:1'\. Must be local, auto"),
        ({"address": "localhost:1"}, r"Invalid launcher\.address: 'localhost:1'\. Must be a Ray c"),
        ({"cpus": 0}, r"Invalid launcher\.cpus: 0\. Must be a number > 0"),
        ({"cpus": "all"}, r"Invalid launcher\.cpus: 'all'\. Must be a number > 0"),
        ({"gpus": -1}, r"Invalid launcher\.gpus: -1\. Must be a number >= 0"),
    ],
    ids=str,
)
def test_what_cannot_be_joined_is_refused(ray, typed, line):
    with pytest.raises(UserError, match=line):
        ray_launcher.check(**{**DEFAULTS, **typed})


def test_a_machine_without_a_cluster_is_told_so(ray):
    def refuse(**options):
        raise ConnectionError("Could not find any running Ray instance. " + "Please " * 200)

    ray.init = refuse
    with pytest.raises(UserError, match=r"'auto'.*any running Ray instance\.$"):
        ray_launcher.check(address="auto", cpus=1, gpus=0)
