import pytest

from experiments.config import budget, commandline
from experiments.config.compose import composed
from experiments.errors import UserError


@pytest.mark.parametrize(
    ("config", "steps"), [({"epochs": 3}, 21), ({"steps": 10}, 10), ({"steps": 1}, 1)]
)
def test_a_number_of_steps(config, steps):
    limits = budget.limits(config, steps_per_epoch=7)
    assert limits == budget.Limits(steps=steps)
    assert limits.horizon == steps
    assert [limits.is_met(steps + i, 1e9) for i in (-1, 0)] == [False, True]


def test_a_training_time():
    limits = budget.limits({"train_seconds": 2.5}, steps_per_epoch=7)
    assert (limits.steps, limits.horizon, limits.given_seconds) == (None, 2.5, 2.5)
    assert [limits.is_met(10**9, seconds) for seconds in (2.4, 2.5, 2.6)] == [False, True, True]


def test_a_target_is_bounded_by_epochs():
    limits = budget.limits({"target": 97, "max_epochs": 3}, steps_per_epoch=7)
    assert (limits.steps, limits.horizon, limits.target) == (21, 21, 97)


def test_a_time_to_match_needs_a_calibration():
    given = {"match_seconds": "adam", "reference_epochs": 2, "reference_steps": None}
    assert budget.reference_steps(given, steps_per_epoch=7) == 14
    assert budget.reference_steps(given | {"reference_steps": 30}, steps_per_epoch=7) == 30
    with pytest.raises(UserError, match="not measured"):
        budget.limits(given, steps_per_epoch=7)


WORDS = [
    (["budget=epochs", "budget.epochs=3"], "3 epochs"),
    (["budget=epochs", "budget.epochs=1"], "1 epoch"),
    (["budget=steps", "budget.steps=30"], "30 steps"),
    (["budget=train_seconds", "budget.train_seconds=60"], "60 seconds of training"),
    (["budget=train_seconds", "budget.train_seconds=0.25"], "0.25 seconds of training"),
    (
        ["budget=target", "budget.target=97.5", "budget.max_epochs=20"],
        "until 97.5, at most 20 epochs",
    ),
    (["budget=target", "budget.target=-1", "budget.max_epochs=1"], "until -1, at most 1 epoch"),
    (
        ["budget=match_seconds", "budget.reference_epochs=200", "budget.match_seconds=adafisher"],
        "time of 200 epochs of adafisher",
    ),
    (
        ["budget=match_seconds", "budget.reference_steps=1", "budget.match_seconds=adam"],
        "time of 1 step of adam",
    ),
]


@pytest.mark.parametrize(("overrides", "words"), WORDS, ids=[words for _, words in WORDS])
def test_in_words(overrides, words):
    config = composed(overrides)
    assert budget.describe(config.budget) == words


def test_a_budget_to_match_is_the_same_run_whatever_was_measured():
    """The config holds the reference; what its time is in steps, a machine says."""
    config = composed(["budget=match_seconds", "task=digits"])
    assert config.budget == {
        "match_seconds": "adafisher",
        "reference_epochs": 20,
        "reference_steps": None,
        "schedule_per": "step",
    }


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "Must be exactly one of: epochs, steps, train_seconds, target, match_seconds"),
        ({"days": 1}, "Must be exactly one of"),
        ({"epochs": 1, "steps": 1}, "Must be exactly one of"),
        ({"epochs": 1, "max_epochs": 1}, "Must be exactly one of"),
        ({"epochs": 0}, "budget.epochs: 0. Must be a whole number >= 1"),
        ({"epochs": 1.5}, "budget.epochs: 1.5. Must be a whole number"),
        ({"steps": "4"}, "budget.steps: 4. Must be a whole number"),
        ({"steps": True}, "budget.steps: True. Must be a whole number"),
        ({"train_seconds": 0}, "budget.train_seconds: 0. Must be a number > 0"),
        ({"train_seconds": float("inf")}, "budget.train_seconds: inf. Must be a number > 0"),
        ({"train_seconds": "1h"}, "budget.train_seconds: 1h. Must be a number > 0"),
        ({"target": None, "max_epochs": 1}, "budget.target: None. Must be a number"),
        ({"target": float("nan"), "max_epochs": 1}, "budget.target: nan. Must be a number"),
        ({"target": 90, "max_epochs": 0}, "budget.max_epochs: 0. Must be a whole number >= 1"),
        ({"target": 90}, "budget.max_epochs: None. Must be a whole number >= 1"),
        ({"match_seconds": 3, "reference_epochs": 1}, "match_seconds: 3. Must be the name of a"),
        ({"match_seconds": "adam", "reference_epochs": 0}, "reference_epochs: 0. Must be a whole"),
        ({"steps": 1, "schedule_per": "epoch"}, "schedule_per: 'epoch'. Must be 'step', or null"),
        (
            {"match_seconds": "adam", "reference_epochs": 1, "reference_steps": 0},
            "reference_steps: 0. Must be a whole number >= 1",
        ),
    ],
    ids=str,
)
def test_refuses_what_is_no_budget(config, message):
    with pytest.raises(UserError, match=r"^Invalid budget") as caught:
        budget.check(config)
    assert message in str(caught.value)


PAPER = [
    ("paper_cifar", {"adafisher_released": 200, "adam": 210, "adahessian": 89, "kfac": 107}),
    ("paper_cifar", {"shampoo": 36, "adafisherw_released": 200, "adamw": 210}),
    ("paper_lm", {"adamw": 55, "adahessian": 18, "shampoo": 12, "adafisherw_released": 50}),
    ("paper_imagenet", {"adam": 90, "adafisher_released": 90, "kfac": 60, "shampoo": 26}),
]


@pytest.mark.parametrize(
    ("name", "method", "epochs"),
    [(name, method, n) for name, table in PAPER for method, n in table.items()],
)
def test_the_papers_epochs(name, method, epochs):
    if method not in commandline.choices("optimizer"):
        pytest.skip(f"{method} is no method of the suite")
    config = composed([f"budget={name}", f"optimizer={method}"])
    assert budget.limits(config.budget, steps_per_epoch=7).steps == 7 * epochs
    assert budget.describe(config.budget) == f"{epochs} epochs"


@pytest.mark.parametrize("name", [n for n in commandline.choices("budget") if "paper" in n])
def test_a_paper_budget_has_a_number_for_every_method(name):
    config = composed([f"budget={name}"])
    assert set(config.budget["by_optimizer"]) >= set(commandline.choices("optimizer"))


def test_another_methods_number_is_no_part_of_a_runs_id():
    plain = composed(["budget=paper_cifar", "optimizer=adam"])
    changed = composed(["budget=paper_cifar", "optimizer=adam", "budget.by_optimizer.kfac=1"])
    own = composed(["budget=paper_cifar", "optimizer=adam", "budget.by_optimizer.adam=1"])
    assert plain.run_id == changed.run_id
    assert plain.run_id != own.run_id
