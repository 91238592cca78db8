"""Several runs in a job of a launcher, and a job that dies: it loses at most the run under way."""

import os
import signal
import subprocess
from types import SimpleNamespace

import pytest
from hydra.core.utils import JobStatus
from submitit.core.utils import FailedJobError, UncompletedJobError

from experiments.records.outcome import Outcome
from experiments.sweep import launching, submitit_launcher, sweep
from experiments.sweep.shared_folder import SweepFolder
from tests.support.sweeps import (
    LAUNCHERS,
    finished,
    measurements,
    start,
    wait_until,
)
from tests.support.sweeps import sweep as run_sweep

SHORT = ["optimizer=adam", "budget=steps", "budget.steps=3", "threads=1"]
LONG = ["optimizer=adam", "seed=range(0,6)", "budget.epochs=40", "threads=1"]
JOBS = "hydra.launcher.submitit_folder"


@pytest.fixture
def asked(make_config):
    """A sweep of five runs, two a job, and a function that notes ends of runs in its folder."""
    configs = [make_config(f"seed={seed}", "runs_per_job=2") for seed in range(5)]
    led = sweep.Sweep.of(configs[0], size=5, parallel=2)

    def note(status: str, *numbers: int) -> None:
        for number in numbers:
            SweepFolder(led.folder).request(number, "{}")
            outcome = Outcome(configs[number].run_id, "it", status, None)
            if status != "running":
                SweepFolder(led.folder).note(number, outcome)

    return led, configs, note


def test_runs_are_dealt_to_jobs_and_those_of_a_dead_one_are_launched_again(asked, capsys):
    led, configs, note = asked
    launched = []

    def launch(jobs):
        launched.append([list(job) for job in jobs])
        if len(launched) == 1:
            note("done", 2, 3, 4)
            note("running", 0)
            return [jobs[0]]
        note("done", 0, 1)
        return []

    assert sweep.run(led, configs, launch) == 0
    assert launched == [[[0, 1], [2, 3], [4]], [[0, 1]]]
    told = capsys.readouterr().err
    assert "note: 1 jobs died; 2 runs are launched again\n" in told
    assert "sweep of 5: 5 done (0 from before)" in told


def test_a_run_at_which_two_jobs_died_is_left_and_no_other(asked, capsys):
    led, configs, note = asked
    launched = []

    def launch(jobs):
        """Run 1 kills whatever executes it."""
        launched.append([list(job) for job in jobs])
        dead = []
        for job in jobs:
            for number in job:
                note("running" if number == 1 else "done", number)
                if number == 1:
                    dead.append(job)
                    break
        return dead

    assert sweep.run(led, configs, launch, done=[0]) == 1
    assert launched == [[[1, 2], [3, 4]], [[1, 2]], [[2]]]
    assert "sweep of 5: 5 done, 1 not finished" not in (told := capsys.readouterr().err)
    assert "sweep of 5: 4 done, 1 not finished (1 from before)" in told


def test_a_run_that_ended_although_its_job_died_is_of_this_sweep(asked, capsys, monkeypatch):
    led, configs, note = asked
    monkeypatch.setattr(sweep, "settled", lambda *_, **__: ("done", None))

    def launch(jobs):
        if len(jobs) == 1:  # run 0 has ended meanwhile, run 1 in an earlier sweep
            for number in jobs[0]:
                assert sweep.execute_job(configs[number], led, number=number)
            return []
        note("done", 2, 3, 4)
        note("running", 0)
        return [jobs[0]]

    assert sweep.run(led, configs, launch) == 0
    assert "sweep of 5: 5 done (1 from before)\n" in capsys.readouterr().err


def test_what_was_told_to_stop_is_not_launched_again(asked):
    led, configs, note = asked

    def launch(jobs):
        note("interrupted", 0)
        SweepFolder(led.folder).stop("SIGTERM")
        return jobs

    assert sweep.run(led, configs, launch) == 130


def test_a_job_that_is_queued_again_goes_on_where_it_was(asked, monkeypatch):
    led, configs, note = asked
    executed = []

    def execute_job(config, led, *, number):
        executed.append((number, config.seed))
        return number < 3  # told to stop at the fourth

    monkeypatch.setattr(sweep, "execute_job", execute_job)
    shared = SweepFolder(led.folder)
    with shared.led():
        for number, config in enumerate(configs):
            shared.plan(number, config.values)
        note("done", 0)
        note("interrupted", 1)
        launching._Runs(led)([0, 1, 2, 3, 4])
    assert executed == [(1, 1), (2, 2), (3, 3)]


def test_jobs_of_several_runs_measure_the_same(tmp_path):
    five = [*SHORT, "seed=range(0,5)"]
    few = [*LAUNCHERS["submitit_local"], "runs_per_job=3", f"{JOBS}={tmp_path / 'jobs'}/%j"]
    result = run_sweep(tmp_path / "a", *five, *few)
    assert result.returncode == 0, result.stderr
    assert "sweep of 5: 5 done (0 from before)" in result.stderr
    assert len(list((tmp_path / "jobs").glob("[0-9]*"))) == 2
    assert run_sweep(tmp_path / "b", *five, "launcher=local").returncode == 0
    assert measurements(tmp_path / "a") == measurements(tmp_path / "b")
    assert len(measurements(tmp_path / "a")) == 5


@pytest.mark.parametrize(
    ("error", "state", "status"),
    [
        (UncompletedJobError("no result"), "NODE_FAIL", JobStatus.UNKNOWN),
        (UncompletedJobError("no result"), "CANCELLED by 1000", JobStatus.FAILED),
        (FailedJobError("a traceback"), "COMPLETED", JobStatus.FAILED),
    ],
    ids=["died", "taken out", "raised"],
)
def test_only_the_death_of_a_job_under_submitit_is_one(error, state, status):
    def results():
        raise error

    job = SimpleNamespace(results=results, state=state)
    assert submitit_launcher._result(job).status == status


@pytest.mark.slow
def test_a_killed_job_loses_no_run_and_ends_no_other(tmp_path):
    assert run_sweep(tmp_path / "alone", *LONG).returncode == 0
    runs = tmp_path / "runs"
    process = start(runs, *LONG, *LAUNCHERS["submitit_local"], "runs_per_job=3")
    wait_until(lambda: len(finished(runs)) >= 2, process)
    jobs = subprocess.run(
        ["pgrep", "-f", f"submitit.core._submit {runs}"], capture_output=True, text=True, check=True
    )
    before = finished(runs)
    os.kill(int(jobs.stdout.split()[0]), signal.SIGKILL)
    _, told = process.communicate(timeout=240)
    assert process.returncode == 0, told
    assert "note: 1 jobs died; " in told
    assert "sweep of 6: 6 done (0 from before)" in told
    assert {name: finished(runs)[name] for name in before} == before
    assert measurements(runs) == measurements(tmp_path / "alone")
