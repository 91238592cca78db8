"""One config gives the same bits wherever it runs; methods of one seed are compared in pairs."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from experiments.config import commandline
from experiments.engine import determinism
from experiments.engine.build import build
from experiments.engine.loop import Trainer
from experiments.errors import UserError
from experiments.records.schema import load_run, load_runs
from experiments.run import run
from experiments.seeding import derive
from tests.support import served

ROOT = Path(__file__).resolve().parents[3]
OPTIMIZERS = commandline.choices("optimizer")
RANDOM = ("adahessian", "ekfac", "kfac")  # those that draw numbers of their own
pytestmark = pytest.mark.filterwarnings("ignore:AdaFisher.*in no supported layer")


def record_of(config):
    return load_run(config.runs_dir / config.run_id)


def untimed(rows):
    return [{key: value for key, value in row.items() if key != "train_seconds"} for row in rows]


def rows_of_a_process(config, **variables):
    """Run a config in a process of its own."""
    program = "import json, sys; from experiments.run import execute; execute(json.load(sys.stdin))"
    subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | variables,
        input=json.dumps(config.values),
        text=True,
        check=True,
        capture_output=True,
    )
    return untimed(record_of(config).rows)


def digest(tensors):
    return hashlib.sha256(
        b"".join(tensor.detach().contiguous().numpy().tobytes() for tensor in tensors)
    ).hexdigest()


@pytest.fixture
def start(make_config):
    """Make a run of a small transformer with dropout and take some steps."""

    def begin(*overrides, steps=0):
        config = make_config(
            "task=generated_text",
            "model=gpt_tiny",
            "model.dropout=0.3",
            "task.batch_size=4",
            "task.context=8",
            *overrides,
        )
        built = build(config)
        trainer = Trainer(built, seed=config.seed)
        weights = digest(built.model.state_dict().values())
        batches = built.task.train.batches(4, seed=derive(config.seed, "data", 0))
        seen = []
        for _, (inputs, targets) in zip(range(steps), batches, strict=False):
            seen.append(digest([inputs, targets]))
            trainer._step(inputs, targets)
        return {"weights": weights, "batches": seen, "dropout": torch.get_rng_state(), "at": built}

    return begin


def test_methods_of_one_seed_share_weights_batches_and_dropout(start):
    """The last is seen from torch's global generator: no method may have drawn from it."""
    starts = {name: start(f"optimizer={name}", steps=2) for name in OPTIMIZERS}
    assert len({begun["weights"] for begun in starts.values()}) == 1
    assert len({tuple(begun["batches"]) for begun in starts.values()}) == 1
    first = starts[OPTIMIZERS[0]]["dropout"]
    for name, begun in starts.items():
        assert torch.equal(begun["dropout"], first), name


def test_another_seed_changes_weights_batches_and_dropout(start):
    one, two = (start(f"seed={seed}", steps=1) for seed in (0, 1))
    assert one["weights"] != two["weights"]
    assert one["batches"] != two["batches"]
    assert not torch.equal(one["dropout"], two["dropout"])


@pytest.mark.parametrize(
    ("override", "same"),
    [("task.batch_size=5", ("weights",)), ("model.layers=1", ("batches",))],
    ids=["data", "model"],
)
def test_the_streams_do_not_touch_each_other(start, override, same):
    """Other data draws the same weights; another model sees the same batches."""
    one, two = start(steps=1), start(override, steps=1)
    equal = {key for key in ("weights", "batches") if one[key] == two[key]}
    assert equal >= set(same)


@pytest.mark.parametrize("name", RANDOM)
def test_the_draws_of_a_method_follow_the_seed_of_the_run(start, name):
    """Else the spread over seeds would leave their part of the variance out."""

    def own_seed(seed):
        state = start(f"optimizer={name}", f"seed={seed}")["at"].optimizer.state_dict()
        return json.dumps(state, default=lambda value: value.tolist(), sort_keys=True)

    assert own_seed(0) == own_seed(0)
    assert own_seed(0) != own_seed(1)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_in_this_process_again_gives_the_same_bits(make_config, tmp_path, name):
    found = []
    for attempt in ("a", "b"):
        torch.manual_seed(hash(attempt))  # what ran before must not matter
        config = make_config(
            f"optimizer={name}", "budget.steps=12", f"runs_dir={tmp_path}/{attempt}"
        )
        assert run.execute(config).status == "done"
        found.append(untimed(record_of(config).rows))
    assert found[0] == found[1]


def test_a_run_in_another_process_gives_the_same_bits(make_config, tmp_path):
    config = make_config("optimizer=adahessian", f"runs_dir={tmp_path}/a")
    run.execute(config)
    # Another hash seed: the order of sets must not matter.
    other = rows_of_a_process(make_config("optimizer=adahessian"), PYTHONHASHSEED="7")
    assert untimed(record_of(config).rows) == other


@pytest.mark.slow
@pytest.mark.parametrize("name", [*RANDOM, "adafisher", "muon", "shampoo"])
def test_a_run_gives_the_same_bits_in_two_processes(make_config, tmp_path, name):
    overrides = (f"optimizer={name}", "budget.steps=24")
    rows = [
        rows_of_a_process(
            make_config(*overrides, f"runs_dir={tmp_path}/{seed}"), PYTHONHASHSEED=seed
        )
        for seed in ("1", "2")
    ]
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_joblib_gives_the_bits_of_one_run_after_another(tmp_path):
    """Where `threads` is open: strict mode takes one, as the division of the cores would vary."""
    command = [
        *(sys.executable, "-m", "experiments.train", "--multirun", "tracking=none"),
        *(
            "task=generated_images",
            "model=small_cnn",
            "optimizer=kfac,adahessian",
            "budget=steps",
            "budget.steps=4",
        ),
        *("task.batch_size=16", "task.threads=null", "deterministic=true"),
    ]
    found = []
    for extra in ([], ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]):
        folder = tmp_path / str(len(found))
        served.run([*command, f"runs_dir={folder}", *extra], cwd=ROOT, check=True)
        found.append({r.run_id: untimed(r.rows) for r in load_runs(folder)[0]})
    assert len(found[0]) == 2
    assert found[0] == found[1]


def test_strict_mode_is_recorded_and_left_again(make_config):
    config = make_config("deterministic=true", "optimizer=adafisher")
    assert run.execute(config).status == "done"
    told = json.loads((record_of(config).path / "environment.json").read_text())["deterministic"]
    assert told["strict"] is True
    assert told["cudnn_deterministic"] is True
    assert told["cudnn_benchmark"] is False
    assert told["cublas_workspace"] in (":4096:8", ":16:8")
    assert not torch.are_deterministic_algorithms_enabled()
    assert determinism.facts()["strict"] is False


def test_strict_mode_is_not_part_of_the_id_and_fixes_open_threads(make_config):
    loose, strict = (
        make_config("threads=null", f"deterministic={value}") for value in ("false", "true")
    )
    assert loose.run_id == strict.run_id
    assert (loose.threads, strict.threads) == (None, 1)
    assert make_config("threads=2", "deterministic=true").threads == 2


def test_an_operation_without_a_deterministic_form_fails_the_run_by_name(make_config, monkeypatch):
    step = Trainer._step

    def with_put(trainer, inputs, targets):
        torch.zeros(2).put_(torch.tensor([0, 0]), torch.ones(2))  # the order of writes is open
        return step(trainer, inputs, targets)

    monkeypatch.setattr(Trainer, "_step", with_put)
    outcome = run.execute(make_config("deterministic=true"))
    assert (outcome.status, outcome.reason) == (
        "failed",
        "deterministic=true: put_ has no deterministic form on this device",
    )
    assert run.execute(make_config("seed=1")).status == "done"


def test_a_mode_that_is_no_switch_is_refused(make_config):
    with pytest.raises(UserError, match="Invalid deterministic: 'maybe'"):
        run.execute(make_config("deterministic=maybe"))
