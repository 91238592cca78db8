"""Which launcher runs a sweep: by its name, by an experiment, by hand; and what is refused."""

import shutil
import sys

import pytest

from experiments.config import commandline, compose, grids
from experiments.errors import UserError
from experiments.sweep import launchers, sweep
from experiments.system import cores
from tests.support import served
from tests.support.sweeps import ROOT

JOBLIB = launchers.LauncherTraits(parallel=2, shows_jobs=True)


def traits_of(overrides):
    return launchers.traits(launchers.compose(overrides))


@pytest.mark.parametrize(
    ("overrides", "traits"),
    [
        ([], launchers.LauncherTraits(parallel=1, shows_jobs=True, here=True)),
        (["launcher=joblib", "jobs=2"], JOBLIB),
        (["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], JOBLIB),
        (["launcher=ray", "jobs=2"], launchers.LauncherTraits(parallel=2, shows_jobs=False)),
        (
            ["launcher=submitit_local", "jobs=2"],
            launchers.LauncherTraits(parallel=2, shows_jobs=False),
        ),
    ],
    ids=["default", "joblib", "by hand", "ray", "submitit_local"],
)
def test_the_launcher_decides_how_many_run(overrides, traits):
    if "launcher=ray" in overrides:
        pytest.importorskip("ray")
    assert traits_of([*overrides, "seed=0,1"]) == traits


def test_every_file_names_a_launcher_that_hydra_knows(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    for name in commandline.choices("launcher"):
        traits_of([f"launcher={name}"])


def test_a_plan_knows_our_launchers(tmp_path):
    typed = ["launcher=ray", "launcher.address=auto", "optimizer=adam", f"runs_dir={tmp_path}"]
    plan = [sys.executable, "-m", "experiments", "plan", *typed]
    result = served.run(plan, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "adam" in result.stdout


def test_the_launcher_of_an_experiment_is_honoured(tmp_path, monkeypatch):
    conf = tmp_path / "conf"
    shutil.copytree(commandline.CONF, conf)
    (conf / "experiment" / "own.yaml").write_text(
        "# @package _global_\n"
        "defaults:\n  - override /launcher: joblib\n  - override /optimizer: adam\n"
        "jobs: 2\n"
        "hydra:\n  sweeper:\n    params:\n      seed: 0,1,2\n"
    )
    monkeypatch.setattr(commandline, "CONF", conf)
    (grid,) = grids.spelled_out(["experiment=own"])
    assert len(commandline.jobs(grid)) == 3
    assert traits_of(grid) == JOBLIB
    assert traits_of([*grid, "jobs=3"]) == launchers.LauncherTraits(parallel=3, shows_jobs=True)
    assert traits_of([*grid, "launcher=local", "jobs=1"]).parallel == 1


def test_the_launcher_is_no_part_of_a_run():
    ids = {
        compose.composed([f"launcher={name}", "memory_limit_gb=2"]).run_id
        for name in commandline.choices("launcher")
    }
    assert ids == {compose.composed([]).run_id}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["jobs=2"], r"Invalid jobs: 2\. launcher=local runs one after another"),
        (["launcher=jobli"], r"Unknown launcher: 'jobli'\. Did you mean: joblib"),
        (["launcher=submitit_slurm"], r"launcher=submitit_slurm: there is no sbatch or srun"),
    ],
)
def test_a_launcher_that_cannot_run_is_refused(overrides, message, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=message):
        traits_of(overrides)


def test_several_processes_of_a_single_run_are_refused(make_config):
    with pytest.raises(UserError, match=r"Invalid processes: 2\. It is for sweeps"):
        launchers.check_single(make_config("processes=2"))


def test_cores_and_devices_are_divided(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "cores", lambda: 16)
    context = sweep.Sweep(tmp_path, 8, parallel=2, devices=("0", "1", "2", "3"), leader=0)
    config = make_config("threads=null", "processes=2")
    shares = [sweep.share(config, context, place) for place in (0, 1)]
    assert [given.threads for given, _ in shares] == [4, 4]
    assert [variables[cores.VISIBLE] for _, variables in shares] == ["0,1", "2,3"]
    assert {variables["MALLOC_TRIM_THRESHOLD_"] for _, variables in shares} == {"4294967296"}
    assert {variables["OMP_NUM_THREADS"] for _, variables in shares} == {"4"}
