"""A number that is not finite ends a run as diverged, wherever it turns up and whatever ends it."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from experiments.engine import divergence, failures
from experiments.engine.build import build
from experiments.engine.divergence import DivergedError
from experiments.engine.evaluation import evaluate
from experiments.engine.loop import Trainer
from experiments.engine.ranks import LostProcessError, Ranks
from experiments.records.schema import METRICS_FILE, load_run
from experiments.records.store import RunFolder
from experiments.run import run
from experiments.tasks.objective import CLASSIFICATION
from experiments.tuning import rungs
from experiments.tuning.trial_scores import of_runs
from tests.support.calibrations import made_up

Spoil = Callable[..., None]
LARGE_BATCH = "task.batch_size=1150"  # all of digits: an epoch is a step


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Spoil:
    """Have the update of a step leave NaN in the weights."""
    plain = Trainer._step

    def at(step: int, change: Callable[[nn.Module], None] | None = None) -> None:
        def spoiled(trainer: Trainer, *batch: Any) -> Any:
            result = plain(trainer, *batch)
            if trainer.counters.step == step - 1:
                with torch.no_grad():
                    (change or _all_nan)(trainer.built.model)
            return result

        monkeypatch.setattr(Trainer, "_step", spoiled)

    return at


def _all_nan(model: nn.Module) -> None:
    for param in model.parameters():
        param.fill_(math.nan)


def record_of(outcome: Any, config: Any) -> Any:
    return load_run(config.runs_dir / outcome.run_id)


def strict_rows(config: Any, run_id: str) -> list[dict[str, Any]]:
    """The rows as a reader sees them that knows JSON alone."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    text = (config.runs_dir / run_id / METRICS_FILE).read_text()
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


BUDGETS = {
    "steps": (("budget=steps", "budget.steps=4"), 4),
    "epochs": (("budget=epochs", "budget.epochs=2", LARGE_BATCH), 2),
    "train_seconds": (("budget=train_seconds", "budget.train_seconds=0.5"), 4),
    "match_seconds": (("budget=match_seconds", "budget.reference_steps=2"), 4),
    # Of logits that are NaN the largest is a class all the same: a tenth of the images.
    "target": (("budget=target", "budget.target=5", "budget.max_epochs=1", LARGE_BATCH), 1),
}


@pytest.mark.parametrize(("overrides", "last"), BUDGETS.values(), ids=BUDGETS)
def test_the_last_update_of_any_budget_counts(
    make_config: Any, monkeypatch: Any, spoil: Spoil, overrides: tuple[str, ...], last: int
) -> None:
    ticks = iter(range(10**6))
    monkeypatch.setattr(Trainer, "_now", lambda trainer: next(ticks) / 8)  # a step is an eighth
    monkeypatch.setattr(run.calibration, "of_run", lambda *arguments: made_up())
    spoil(last)
    config = make_config(*overrides)
    outcome = run.execute(config)
    assert (outcome.status, outcome.reason) == (
        "diverged",
        f"validation_loss is nan at step {last}",
    )
    record = record_of(outcome, config)
    assert (record.status, record.reason) == (outcome.status, outcome.reason)
    assert record.progress["step"] == record.progress["last_row_step"] == last
    assert record.summary.get("steps_to_target") is None
    shown = strict_rows(config, outcome.run_id)[-1]
    metrics = ("loss", "accuracy_percent")
    names = [f"{split}_{metric}" for split in ("validation", "test") for metric in metrics]
    assert {shown[name] for name in names} == {"NaN"}
    assert all(math.isnan(record.rows[-1][name]) for name in names)
    assert math.isfinite(record.rows[-1]["train_loss"])
    assert run.execute(config).skipped


def test_what_is_shown_of_a_run_that_diverged_is_no_result(
    make_config: Any, spoil: Spoil, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(2)
    outcome = run.execute(make_config("budget.steps=2", LARGE_BATCH))
    assert outcome.status == "diverged"
    told = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(
        r"digits adam seed 0: diverged \(validation_loss is nan at step 2\), "
        rf"\d+\.\d s of training, run {outcome.run_id}",
        told,
    )


def test_without_a_validation_split_test_decides(make_config: Any, spoil: Spoil) -> None:
    spoil(4)
    outcome = run.execute(make_config("task.validation_fraction=0"))
    assert (outcome.status, outcome.reason) == ("diverged", "test_loss is nan at step 4")


def test_a_loss_in_training_is_named_with_its_step(make_config: Any, spoil: Spoil) -> None:
    spoil(2)
    config = make_config()
    outcome = run.execute(config)
    assert (outcome.status, outcome.reason) == ("diverged", "loss is nan at step 3")
    assert record_of(outcome, config).rows == []


class Refusing(torch.optim.SGD):
    """A method that raises where a gradient is not finite, as a decomposition would."""

    def step(self, closure: Any = None) -> None:
        for param in self.param_groups[0]["params"]:
            torch.linalg.eigh(param.grad.flatten().outer(param.grad.flatten())[:4, :4])
        super().step(closure)


REFUSING = f"optimizer._target_={__name__}.Refusing"


def test_a_method_that_raises_at_a_loss_that_is_not_finite_has_diverged(
    make_config: Any, spoil: Spoil
) -> None:
    spoil(2)
    config = make_config("optimizer=sgd", REFUSING, "task=generated_text")
    outcome = run.execute(config)
    assert (outcome.status, outcome.reason) == ("diverged", "loss is nan at step 3")
    assert not (config.runs_dir / outcome.run_id / failures.TRACEBACK_FILE).exists()


def test_of_two_processes_the_first_hears_that_the_other_has_diverged(tmp_path: Path) -> None:
    """The one that raised is gone, and the first sees a connection that is closed."""
    folder = RunFolder(tmp_path, "abc")
    folder.create()
    own = failures.end_by(DivergedError("loss is nan at step 3"), folder, Ranks(rank=1, size=2))
    assert own == ("diverged", "process 1: loss is nan at step 3")
    assert failures.end_by(LostProcessError("gone"), folder, Ranks(rank=0, size=2)) == own


def test_a_method_that_raises_at_a_finite_loss_has_failed(
    make_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(self: Any, closure: Any = None) -> None:
        raise ZeroDivisionError("why")

    monkeypatch.setattr(Refusing, "step", raises)
    outcome = run.execute(make_config("optimizer=sgd", REFUSING))
    assert (outcome.status, outcome.reason) == ("failed", "ZeroDivisionError: why")


def test_an_infinite_perplexity_of_a_finite_loss(make_config: Any, spoil: Spoil) -> None:
    """exp(710) is no double any more."""

    def sure_of_the_wrong(model: nn.Module) -> None:
        model.head.weight.mul_(1e5)

    spoil(2, sure_of_the_wrong)
    config = make_config("task=generated_text", "budget.steps=2")
    outcome = run.execute(config)
    assert (outcome.status, outcome.reason) == (
        "diverged",
        "validation_perplexity is inf at step 2",
    )
    (row,) = strict_rows(config, outcome.run_id)
    assert row["validation_perplexity"] == "Infinity"
    assert 710 < row["validation_loss"] < math.inf
    assert record_of(outcome, config).rows[-1]["validation_perplexity"] == math.inf


def test_a_weight_that_no_evaluation_reads(make_config: Any, spoil: Spoil) -> None:
    """The embedding of a token that the text to evaluate on does not hold."""
    config = make_config("task=generated_text", "budget.steps=2")
    task = build(config).task
    held = {
        token for split in (task.validation, task.test) for token in split.inputs.flatten().tolist()
    }
    absent = next(token for token in range(101) if token not in held)

    def one_row(model: nn.Module) -> None:
        (embedding,) = (m for m in model.modules() if getattr(m, "num_embeddings", 0) == 101)
        embedding.weight[absent, 3] = -math.inf

    spoil(2, one_row)
    outcome = run.execute(config)
    assert outcome.status == "diverged"
    assert outcome.reason is not None
    assert outcome.reason.startswith("weight ")
    assert outcome.reason.endswith(".weight is -inf at step 2")
    assert math.isfinite(record_of(outcome, config).rows[-1]["test_loss"])


def test_one_row_of_logits_that_are_no_numbers_spoils_loss_and_accuracy(make_config: Any) -> None:
    built = build(make_config())
    forward = built.forward

    def one_bad(inputs: torch.Tensor) -> torch.Tensor:
        logits = forward(inputs).clone()
        logits[-1, 0] = math.nan
        return logits

    object.__setattr__(built, "forward", one_bad)
    assert built.task.validation is not None
    found = evaluate(built, built.task.validation)
    assert math.isnan(found["loss"])
    assert math.isnan(found["accuracy_percent"])


def test_an_infinite_loss_leaves_the_accuracy_which_is_a_count() -> None:
    """A label with the probability 0 costs infinitely much, and is one of four."""
    logits = torch.tensor([[0.0, -math.inf], [1, 0], [1, 0], [0, 1]])
    sums = CLASSIFICATION.sums(logits, torch.tensor([1, 0, 0, 1]))
    metrics = CLASSIFICATION.measured(sums, {})
    assert metrics == {"loss": math.inf, "accuracy_percent": 75.0}


class Killed(BaseException):
    pass


def test_a_run_killed_before_its_end_is_written_ends_the_same(
    make_config: Any, monkeypatch: Any, spoil: Spoil
) -> None:
    """The row is on the disk, the status is not: the checkpoint must not say that all is done."""
    spoil(3)
    overrides = ("budget.steps=3", LARGE_BATCH)
    unbroken = make_config(*overrides, f"runs_dir={make_config().runs_dir}-unbroken")
    expected = run.execute(unbroken)
    config = make_config(*overrides)
    plain = RunFolder.append_row

    def killed(folder: RunFolder, row: Any) -> None:
        plain(folder, row)
        if row["step"] == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append_row", killed)
        with pytest.raises(Killed):
            run.execute(config)
    left = load_run(config.runs_dir / expected.run_id)
    assert (left.status, left.rows[-1]["step"]) == ("running", 3)
    again = run.execute(config)
    assert (again.status, again.reason, again.skipped) == (expected.status, expected.reason, False)
    rows = [
        [
            {k: v for k, v in row.items() if k != "train_seconds"}
            for row in strict_rows(each, run_id)
        ]
        for each, run_id in ((config, again.run_id), (unbroken, expected.run_id))
    ]
    assert rows[0] == rows[1]
    assert [row["step"] for row in rows[0]] == [1, 2, 3]


def test_a_run_stopped_with_bad_weights_ends_the_same(
    make_config: Any, spoil: Spoil, stop_after: Any
) -> None:
    spoil(2)
    config = make_config("budget.steps=4")
    stop_after(config, 2)
    again = run.execute(config)
    assert (again.status, again.reason) == ("diverged", "loss is nan at step 3")


def test_a_finished_checkpoint_with_bad_weights_is_not_done(make_config: Any) -> None:
    """As older versions of the code left it, killed before the last status."""
    trainer = Trainer(build(make_config()), seed=0)
    list(trainer.run())
    with torch.no_grad():
        _all_nan(trainer.built.model)
    again = Trainer(build(make_config()), seed=0)
    again.load_state_dict(trainer.state_dict())
    with pytest.raises(DivergedError, match=r"^weight .* is nan at step 4$"):
        list(again.run())


def test_a_rung_that_diverges_at_its_end_has_no_value(make_config: Any) -> None:
    """The rung of one step is its last: by the accuracy of NaN logits the point would go on."""
    points = [{"lr": lr} for lr in (0.05, 1e35, 0.1)]

    def trained(rates: Any, rung: str) -> list[Any]:
        trials = []
        for point in rates:
            rate = f"optimizer.lr={point['lr']}"
            config = make_config("optimizer=sgd", "budget.steps=2", rate, *filter(None, [rung]))
            outcome = run.execute(config)
            trials.append(of_runs(point, [record_of(outcome, config)]))
        return trials

    found = rungs.climb(points, ["budget.steps=1", ""], trained)
    assert found[1].status == "diverged"
    assert (found[1].metric, found[1].loss) == (None, None)
    assert sorted(found[index].status for index in (0, 2)) == ["done", "pruned"]


@pytest.mark.parametrize(
    ("value", "told"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")]
)
def test_the_weight_is_named_with_its_value(value: float, told: str) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    divergence.check_weights(model, 7, world=Ranks())
    with torch.no_grad():
        model[1].weight[1, 2] = value
    with pytest.raises(DivergedError, match=rf"^weight 1\.weight is {told} at step 7$"):
        divergence.check_weights(model, 7, world=Ranks())
    model[1].requires_grad_(False)  # a mask of minus infinities, say, is no sign of divergence
    divergence.check_weights(model, 7, world=Ranks())


def test_a_weight_that_only_another_process_sees_ends_this_one_too() -> None:
    """Of a split model every process sees a part."""

    class Two(Ranks):
        def gather(self, value: Any) -> Any:
            return [value, ("head.weight", "nan")]

    with pytest.raises(DivergedError, match=r"^weight head\.weight is nan at step 1$"):
        divergence.check_weights(nn.Linear(2, 2), 1, world=Two())
