"""Runs to look at: debug=overfit, debug=limit and debug=profile."""

import gzip
import json
import math

import pytest
import torch

from experiments.config import commandline, compose
from experiments.engine import profiling
from experiments.errors import UserError
from experiments.records.schema import load_runs
from experiments.run import run
from experiments.tasks.batches import rows
from experiments.tasks.few_samples import First, Repeated
from experiments.tasks.objective import LOSS
from experiments.tasks.tokens import NEXT_TOKEN, TokenSplit
from tests.support.configs import GONE, changed

CHOICES = commandline.choices("debug")
WHOLE = ("budget=steps", "optimizer=adamw", "task=digits")


def folder_of(config):
    return config.runs_dir / config.run_id


def rows_of(config):
    text = (folder_of(config) / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("name", CHOICES)
def test_a_debug_run_is_no_result_and_runs_each_time(make_config, tmp_path, name):
    config = make_config(*WHOLE, f"debug={name}", "budget.steps=11")
    assert config.tracking["_target_"] is None
    for _ in range(2):
        outcome = run.execute(config)
        assert (outcome.status, outcome.skipped) == ("done", False)
    assert config.setting == f"debug_{name}"
    assert load_runs(tmp_path / "runs") == ([], [])
    (found,), problems = load_runs(tmp_path / "runs" / compose.DEBUG_DIR)
    assert (found.run_id, problems) == (outcome.run_id, [])
    text = (commandline.CONF / "debug" / f"{name}.yaml").read_text()
    assert f"debug={name}" in text.partition("defaults:")[0]  # the header has the command


@pytest.mark.parametrize("name", CHOICES)
def test_any_run_can_be_looked_at(name):
    """The budget and the mirror are the debug run's, whatever an experiment or a task says."""
    for typed in (["experiment=table5", "task=ptb", "seed=1"], ["task=tinyshakespeare"]):
        config = compose.composed([*typed, f"debug={name}"])
        assert config.tracking["_target_"] is None
        assert set(config.budget) == {"steps"}


@pytest.mark.parametrize("overrides", [[], ["task=tinyshakespeare"], ["optimizer=sgd", "seed=3"]])
def test_the_ids_of_other_runs_are_those_from_before_there_was_one(overrides):
    config = compose.composed(overrides)
    before = changed(config, {"debug": GONE})
    assert config.debug is None
    assert config.run_id == before.run_id
    ids = {compose.composed([*overrides, f"debug={name}"]).run_id for name in CHOICES}
    assert len(ids - {config.run_id}) == len(CHOICES)


def test_overfitting_drives_the_training_loss_to_zero(make_config):
    config = make_config(*WHOLE, "debug=overfit", "budget.steps=180")
    assert run.execute(config).status == "done"
    first, *_, last = (row["train_loss"] for row in rows_of(config))
    assert first > 0.3
    assert last < 0.01  # chance is 2.3


def test_a_limited_run_has_its_steps_and_one_evaluation(make_config):
    config = make_config(*WHOLE, "debug=limit", "budget.steps=3")
    assert compose.composed(["debug=limit"]).budget == {"steps": 3}
    run.execute(config)
    (row,) = rows_of(config)
    assert row["step"] == 3
    # Of 64 samples, each is 1.5625 %.
    assert row["test_accuracy_percent"] % (100 / 64) == 0


def test_a_profile_is_a_table_and_a_trace(make_config, capfd):
    config = make_config(*WHOLE, "debug=profile", "budget.steps=5", "debug.profile_steps=2")
    assert run.execute(config).status == "done"
    table = (folder_of(config) / profiling.TABLE_FILE).read_text()
    assert table in capfd.readouterr().err
    (steps,) = (line.split() for line in table.splitlines() if "AdamW.step" in line)
    assert steps[-1] == "2"  # calls: those of the profiled steps and no other
    with gzip.open(folder_of(config) / profiling.TRACE_FILE) as file:
        names = {event.get("name", "") for event in json.load(file)["traceEvents"]}
    assert "aten::convolution" in names


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["debug=profile", "budget.steps=10"], "Invalid budget: 10 steps. Must be more than 10"),
        (["debug=profile", "debug.profile_steps=0"], "Invalid debug.profile_steps: 0. Must be"),
        (["debug=overfit", "debug.train_samples=0"], "Invalid debug.train_samples: 0. Must be"),
        (["debug=limit", "debug.evaluation_samples=1.5"], "Invalid debug.evaluation_samples: 1.5"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_record(make_config, tmp_path, overrides, message):
    with pytest.raises(UserError) as error:
        run.execute(make_config(*WHOLE, "budget.steps=20", *overrides))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert load_runs(tmp_path / "runs" / compose.DEBUG_DIR) == ([], [])


def numbers(count):
    return TokenSplit(torch.arange(count), context=2, words=10, characters=40)


def test_repeated_samples_are_the_first_ones_in_every_batch():
    split = Repeated(numbers(21), 3)
    assert len(split) == 10
    for seed in (None, 0, 1):
        batches = [inputs[:, 0].tolist() for inputs, _ in split.batches(3, seed=seed)]
        assert batches == [[0, 2, 4], [0, 2, 4], [0, 2, 4], [0]]
        assert [inputs[:, 0].tolist() for inputs, _ in split.batches(3, seed=seed, start=2)] == (
            batches[2:]
        )
    assert rows(Repeated(numbers(5), 100)._batch) == 2


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 5, 100])
def test_the_first_samples_in_order(batch_size):
    split = First(numbers(21), 4)
    assert len(split) == 4
    inputs = [inputs for inputs, _ in split.batches(batch_size)]
    assert torch.cat(inputs)[:, 0].tolist() == [0, 2, 4, 6]
    assert len(inputs) == split.num_batches(batch_size)
    rest = [first for inputs, _ in split.batches(batch_size, start=1) for first in inputs[:, 0]]
    assert rest == [0, 2, 4, 6][batch_size:]


def test_metrics_of_the_first_samples_are_means_of_them():
    tokens = First(numbers(21), 5)
    metrics = NEXT_TOKEN.measured({LOSS: (7.0, 10)}, tokens.facts)
    assert metrics["loss"] == pytest.approx(0.7)
    assert metrics["perplexity"] == pytest.approx(math.exp(0.7))
    # Half of the windows spell half of the 10 words and 40 characters.
    assert metrics["perplexity_word"] == pytest.approx(math.exp(7 / 5))
    assert metrics["bits_per_character"] == pytest.approx(7 / 20 / math.log(2))
