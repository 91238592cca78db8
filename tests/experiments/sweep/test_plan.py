"""A plan against records written by hand, whose costs are plain numbers."""

import json

import pytest

from experiments.config import commandline, grids, identity
from experiments.errors import UserError
from experiments.records.calibration import Calibration
from experiments.records.schema import load_run
from experiments.records.store import RunFolder
from experiments.sweep import estimate, plan
from experiments.sweep.estimate import RunCost
from experiments.system import cores
from experiments.timing import calibration_key
from tests.support.commands import exit_code

SWEEP = ["optimizer=adam,sgd", "seed=0,1", "task=digits", "budget.epochs=20"]


@pytest.fixture
def overrides(tmp_path):
    return [*SWEEP, f"runs_dir={tmp_path}"]


@pytest.fixture
def write(tmp_path, make_config):
    """Write the record of a run of 20 epochs of 100 steps, at two seconds a step."""

    def record(
        optimizer, seed, status, *, step=2000, folder=tmp_path, values=(), progress=None, rows=()
    ):
        config = make_config(
            "budget=epochs",
            "budget.epochs=20",
            f"optimizer={optimizer}",
            f"seed={seed}",
            f"runs_dir={folder}",
            *values,
        )
        run = RunFolder(folder, config.run_id)
        run.create()
        facts = {
            "task": "digits",
            "model": "small_cnn",
            "optimizer": optimizer,
            "ruleset": "default",
            "budget": "20 epochs",
            "group_id": config.group_id,
            "metric": "accuracy_percent",
            "seed": seed,
            "higher_is_better": True,
            "protocol": identity.protocol(config),
            "batch_size": config.task.batching.batch_size,
            "precision": "fp32",
            "tokenization": None,
        }
        known = {
            "step": step,
            "epoch": step / 100,
            "train_seconds": 2.0 * step,
            "total_steps": 2000,
            "last_row_step": None,
            **(progress or {}),
        }
        summary = {"parameters": 1_000_000, "state_bytes": 8_000_000}
        run.write_status(status, "why", identity=facts, progress=known, summary=summary)
        for row in rows:
            run.append_row(row)
        run.write("arrays.bin", b"0" * 3_000_000)
        return run.run_id

    return record


def test_the_jobs_have_their_records_and_the_ids_of_the_sweep(overrides, write):
    done, interrupted = write("adam", 0, "done"), write("adam", 1, "interrupted", step=500)
    failed = write("sgd", 0, "failed")
    jobs = plan.plan(overrides).jobs
    assert [job.state for job in jobs] == ["done", "interrupted", "failed", "to do"]
    assert [job.run_id for job in jobs][:3] == [done, interrupted, failed]
    assert [job.label for job in jobs] == [
        f"digits {name} seed {seed}" for name in ("adam", "sgd") for seed in (0, 1)
    ]
    assert [job.is_open for job in jobs] == [False, True, False, True]
    again = plan.plan([*overrides, "retry=true"]).jobs
    assert [job.is_open for job in again] == [False, True, True, True]


def test_hours_and_disk_follow_from_the_records(overrides, write):
    """1,500 and 2,000 steps at two seconds are 3,000 and 4,000 s; 4 MB of weights, 8 of state."""
    write("adam", 0, "done")
    write("adam", 1, "interrupted", step=500)
    found = plan.plan([*overrides, "seed=0,1,2", "optimizer=adam", "jobs=2"])
    assert list(plan.report(found)) == [
        "sweep of 3: 1 done, 2 to do",
        "time: 1.94 h one after another, 67 min with jobs=2",
        "  1.94 h of training; no run tells the evaluation of 2 and the start of 2",
        "disk: 6 MB of records, 48 MB of checkpoints under way",
        "method  on      to do   time    s a step",
        "adam    digits  2 of 3  1.94 h  2",
        "  s a step: runs",
    ]


def test_every_run_is_listed_where_asked(overrides, write, capsys):
    done = write("adam", 0, "done")
    assert exit_code("plan", *overrides, "each=true") == 0
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [done, "done", "-", "digits", "adam", "seed", "0"] in told
    assert len([line for line in told if line[-2:-1] == ["seed"]]) == 4


def test_what_is_unknown_is_said_with_the_way_to_know(overrides, write, tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "GOLDEN", tmp_path / "no checkout")
    write("adam", 0, "done")
    told = list(plan.report(plan.plan(overrides)))
    assert "time: 67 min one after another; without 2 of unknown cost" in told
    assert "sgd     digits  2       unknown  unknown" in told
    (command,) = (line for line in told if "python -m experiments.train" in line)
    for word in (
        "task=digits",
        "optimizer=sgd",
        "task.batch_size=64",
        f"runs_dir={tmp_path}/.plan",
    ):
        assert word in command.split()
    # What that command leaves is found.
    write("sgd", 7, "done", folder=tmp_path / estimate.SHORT_RUNS)
    told = list(plan.report(plan.plan(overrides)))
    assert not any("unknown" in line for line in told)
    assert "time: 3.33 h one after another" in told


def golden(folder, write, monkeypatch):
    folder.mkdir()
    monkeypatch.setattr(estimate, "GOLDEN", folder)
    write("sgd", 7, "done", folder=folder)
    (run,) = (path for path in folder.iterdir() if not path.name.startswith("."))
    (run / "environment.json").write_text('{"cpu_model": "Slow One", "device": "cpu"}')


def test_golden_records_tell_where_nothing_better_is_known(overrides, write, tmp_path, monkeypatch):
    golden(tmp_path / "golden", write, monkeypatch)
    write("adam", 0, "done")
    assert list(plan.report(plan.plan(overrides)))[4:] == [
        "method  on      to do   time    s a step",
        "adam    digits  1 of 2  67 min  2",
        "sgd     digits  2       2.22 h  2*",
        "  s a step: runs",
        "  *: golden records, on Slow One: elsewhere ratios hold better than seconds",
    ]
    write("sgd", 1, "interrupted", step=500)  # of this machine
    told = list(plan.report(plan.plan(overrides)))
    assert "sgd     digits  2       1.94 h  2" in told
    assert told[-1] == "  s a step: runs"


GRIDS = {
    "one method": (["optimizer=adam"], 1),
    "all on two tasks": (["optimizer=all", "task=digits,tinyshakespeare", "seed=0,1,2"], 16),
    "several rates": (["optimizer=adam,sgd", "optimizer.lr=0.1,0.2,0.3"], 6),
    "more than a screen has": (["optimizer=all", "optimizer.lr=0.1,0.2"], 16),
    "more tasks than columns": (
        ["optimizer=all", "task=digits,cifar10,cifar100,mnist,tinyshakespeare"],
        16,
    ),
}


@pytest.mark.parametrize(("words", "rows"), GRIDS.values(), ids=GRIDS.keys())
def test_a_plan_fits_a_screen(tmp_path, words, rows):
    """A row a method and task, or a row a method; of what has no room it says how much."""
    told = list(plan.report(plan.plan([*words, f"runs_dir={tmp_path}/none"])))
    table = [line for line in told if line.split()[0] in plan.commandline.choices("optimizer")]
    assert len(table) == rows
    assert len(told) <= 24
    assert max(map(len, told)) <= 100
    if rows == 16:
        each = len(plan.commandline.choices("optimizer"))
        more = (2 * each if words[1].startswith("optimizer.lr") else each) - rows
        assert f"and {more} more rows; each=true lists every run" in told


def test_another_batch_size_is_another_setting(overrides, write, tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "GOLDEN", tmp_path / "no checkout")
    write("adam", 0, "done", values=["task.batch_size=32"])
    found = plan.plan([*overrides, "optimizer=adam"])
    assert [key[:-1] for key in found.known] == [("digits", "small_cnn", "adam", 32, "fp32", None)]
    assert "time: unknown" in list(plan.report(found))


@pytest.mark.parametrize(
    "value",
    ["model.width=8", "task.validation_fraction=0.5", "task.train_limit=99", "compile=true"],
)
def test_another_width_or_part_is_another_setting_and_short_runs_say_so(
    overrides, write, tmp_path, monkeypatch, value
):
    monkeypatch.setattr(estimate, "GOLDEN", tmp_path / "no checkout")
    write("adam", 0, "done")
    told = list(plan.report(plan.plan([*overrides, "optimizer=adam", value])))
    assert "time: unknown" in told
    (command,) = (line.split() for line in told if "python -m experiments.train" in line)
    assert (value in command) == ("." in value)
    write("adam", 7, "done", folder=tmp_path / estimate.SHORT_RUNS, values=[value])
    assert "time: 2.22 h one after another" in list(
        plan.report(plan.plan([*overrides, "optimizer=adam", value]))
    )


LOOKS = [
    {"step": n, "validation_loss": 1.0, **({"test_loss": 1.0} if n < 3 else {})}
    for n in (1, 2, 3, 4)
]
PASSES = {
    "last_row_step": 4,
    "validation_seconds": 12.0,
    "evaluation_seconds": 10.0,
    "start_seconds": 7.0,
}


@pytest.mark.parametrize(
    ("words", "evaluation"),
    [
        (["evaluate_test=true"], 20 * (3 + 5)),  # a pass of validation is 3 s, of test 5 s
        (["evaluate_test=false"], 20 * 3),
        (["evaluate_test=best"], 20 * (3 + 5 / 2)),  # half of the evaluations looked at test
        (["evaluate_test=true", "task.evaluate_every=30"], 67 * (3 + 5)),
        (["evaluate_test=true", "task.evaluations_per_epoch=2"], 40 * (3 + 5)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_evaluations_and_the_start_count(overrides, write, words, evaluation):
    """2,000 steps of an epoch of 100, and of a method that no run tells of what others had."""
    write("adam", 0, "done", progress=PASSES, rows=LOOKS)
    write("sgd", 0, "done")
    for name in ("adam", "sgd"):
        asked = [*overrides, f"optimizer={name}", "seed=1", *words]
        (run,) = plan.facts(plan.plan(asked))["runs"]
        assert run["training_seconds"] == 4000
        assert run["evaluation_seconds"] == evaluation
        assert run["start_seconds"] == 7
        assert run["seconds"] == 4000 + evaluation + 7
    told = list(plan.report(plan.plan(asked)))
    assert told[2].startswith("  67 min of training, ")
    assert told[2].endswith(" of evaluation, 7 s of start")


def test_a_calibration_serves_where_no_run_does(overrides, write, monkeypatch):
    write("adam", 0, "done")
    asked = []

    def calibrated(config, runs_dir):
        asked.append(config.optimizer.name)
        return {estimate.setting(config): RunCost(0.5, 100, None, None, "calibration")}

    monkeypatch.setattr(estimate, "calibrated", calibrated)
    told = list(plan.report(plan.plan(overrides)))
    assert set(asked) == {"sgd"}
    # adam seed 1: 4,000 s; sgd: two times 1,000 s
    assert "time: 1.67 h one after another" in told
    assert "sgd     digits  2       33 min  0.5" in told
    assert "  s a step: calibration" in told


def test_a_calibration_is_looked_for_as_the_sweep_measures_it(overrides, monkeypatch):
    """Once a method, and with the cores that a run has beside the others."""
    asked = []
    monkeypatch.setattr(cores, "cores", lambda: 8)
    monkeypatch.setattr(
        estimate, "calibrated", lambda config, runs_dir: asked.append(config.threads) or {}
    )
    plan.plan([*overrides, "launcher=joblib", "jobs=2", "threads=null"])
    assert asked == [4, 4]


def test_the_calibration_of_a_machine_is_asked_where_there_is_one(make_config, tmp_path):
    config = make_config("optimizer=kfac", "budget=match_seconds", "budget.match_seconds=adam")
    assert estimate.calibrated(config, tmp_path) == {}  # nothing was measured below this folder
    key = calibration_key.key(
        config, calibration_key.reference_section(config), calibration_key.machine(config)
    )
    facts = {"seconds_per_step": 2.0, "reference_seconds_per_step": 3.0, "ratio": 2 / 3}
    facts |= {"steps_per_epoch": 100, "spread_percent": 1.0, "rounds": 3, "published_ratio": None}
    known = Calibration(method="kfac", reference="adam", setting={}, machine={}, **facts)
    (tmp_path / calibration_key.CACHE_DIR).mkdir()
    (tmp_path / calibration_key.CACHE_DIR / f"{key}.json").write_bytes(known.to_json())
    found = estimate.calibrated(config, tmp_path)
    assert {key[2]: cost.seconds_per_step for key, cost in found.items()} == {
        "kfac": 2.0,
        "adam": 3.0,
    }


def test_steps_that_were_written_down_tell_the_seconds_of_their_machine(make_config, tmp_path):
    config = make_config("optimizer=kfac").having(
        budget={
            "steps": 30,
            "by_optimizer": {"kfac": 30},
            "calibration": {
                "reference": "adam",
                "reference_steps": 20,
                "date": "2026-11-29",
                "machine": "M1",
            },
            "measured": {
                "steps_per_epoch": 18,
                "methods": {"kfac": {"seconds_per_step": 0.5}},
            },
        }
    )
    ((key, cost),) = estimate.calibrated(config, tmp_path).items()
    assert key == estimate.setting(config)
    assert (cost.seconds_per_step, cost.steps_per_epoch) == (0.5, 18)
    assert cost.source == "a calibration of 2026-11-29 on M1"
    assert estimate.time_left(config, None, {key: cost}).training == 15.0


def test_a_plan_of_controls_has_what_they_control(overrides):
    labels = plan.plan([*overrides, "control=scalar", "optimizer=adam"]).jobs
    assert len(labels) == 4  # two seeds, each with its control


@pytest.mark.parametrize(
    ("budget", "seconds"),
    [
        ({"epochs": 3}, 2.0 * 3 * 100),
        ({"steps": 30}, 2.0 * 30),
        ({"train_seconds": 50}, 50.0),
        ({"target": 97.0, "max_epochs": 4}, 2.0 * 400),
        ({"match_seconds": "adam", "reference_epochs": 5, "reference_steps": None}, 3.0 * 500),
        ({"match_seconds": "adam", "reference_epochs": 5, "reference_steps": 7}, 3.0 * 7),
        ({"match_seconds": "sgd", "reference_epochs": 5, "reference_steps": None}, None),
    ],
)
def test_each_kind_of_budget_has_its_time(make_config, budget, seconds):
    """A method at two seconds a step; `match_seconds` has the time of its reference, at three."""
    config = make_config("optimizer=kfac").having(budget=budget)
    known = {
        estimate.setting(config): RunCost(2.0, 100, None, None, ""),
        estimate.setting(config, optimizer="adam"): RunCost(3.0, 100, None, None, ""),
    }
    found = estimate.time_left(config, None, known)
    assert (found and found.training) == seconds


def test_of_a_run_under_way_only_the_rest_counts(make_config, write, tmp_path):
    config = make_config("budget=epochs", "budget.epochs=20", f"runs_dir={tmp_path}")
    run = load_run(tmp_path / write("adam", 0, "interrupted", step=500))
    known = {estimate.setting(config): RunCost(2.0, None, None, None, "")}
    assert estimate.time_left(config, run, known).total == 2.0 * 1500
    timed = config.having(budget={"train_seconds": 1200.0})
    assert estimate.time_left(timed, run, known).total == 1200.0 - 2.0 * 500


@pytest.mark.parametrize(
    ("durations", "jobs", "seconds"),
    [([], 2, 0), ([1, 2, 3], 1, 6), ([1, 2, 3], 3, 3), ([3, 1, 1, 1], 2, 3), ([1, 1, 1, 3], 2, 4)],
)
def test_runs_side_by_side_start_as_places_come_free(durations, jobs, seconds):
    assert estimate.seconds_side_by_side(durations, jobs) == seconds


def test_values_that_vary_tell_the_jobs_apart(tmp_path):
    jobs = plan.plan(["optimizer=adam", "optimizer.lr=0.1,0.2", f"runs_dir={tmp_path}/none"]).jobs
    assert [job.label for job in jobs] == [
        "digits adam seed 0 optimizer.lr=0.1",
        "digits adam seed 0 optimizer.lr=0.2",
    ]
    assert not (tmp_path / "none").exists()  # a plan writes nothing


def test_an_experiment_is_planned_as_it_is_swept(tmp_path):
    given = ["experiment=smoke_table2_cifar10", "optimizer=shampoo", f"runs_dir={tmp_path}"]
    sizes = [len(commandline.jobs(grid)) for grid in grids.spelled_out(given)]
    assert len(plan.plan(given).jobs) == sum(sizes)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("optimzer=adam", "Unknown key: 'optimzer'"),
        ("optimizer=adamm", "Unknown optimizer: 'adamm'"),
        ("jobs=two", "Invalid jobs: 'two'"),
        ("--cfg", "--cfg"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, capsys, override, told):
    assert exit_code("plan", f"runs_dir={tmp_path}", override) == 2
    errors = capsys.readouterr().err
    assert told in errors
    assert errors.count("\n") == 1


def test_jobs_below_one_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"Invalid jobs: 0. Must be a whole number >= 1."):
        plan.plan([f"runs_dir={tmp_path}", "jobs=0"])


def test_jobs_that_joblib_counts_from_the_cores_are_planned(tmp_path):
    given = [f"runs_dir={tmp_path}", "launcher=joblib", "hydra.launcher.n_jobs=-1"]
    assert plan.plan(given).side_by_side == cores.cores()


@pytest.mark.parametrize("word", ["--json", "json=true"])
def test_a_program_is_told_the_same(word, overrides, write, capsys, tmp_path, monkeypatch):
    """One of four is done, at two seconds a step, and one a quarter done."""
    monkeypatch.setattr(estimate, "GOLDEN", tmp_path / "no checkout")  # which tells of the start
    write("adam", 0, "done")
    write("adam", 1, "interrupted", step=500)
    assert exit_code("plan", *overrides, word) == 0
    told = json.loads(capsys.readouterr().out)
    runs = {(run["optimizer"], run["seed"]): run for run in told["runs"]}
    assert [runs["adam", seed]["state"] for seed in (0, 1)] == ["done", "interrupted"]
    assert (runs["adam", 0]["is_to_run"], runs["adam", 0]["seconds"]) == (False, 0.0)
    assert runs["adam", 1]["seconds"] == pytest.approx(3000.0)
    assert (told["to_run"], told["jobs"]) == (3, 1)
    assert told["states"] == {"done": 1, "interrupted": 1, "to do": 2}
    known = [run["seconds"] for run in told["runs"] if run["seconds"] is not None]
    assert told["seconds"] == pytest.approx(sum(known))
    assert told["of_unknown_cost"] == 4 - len(known)
