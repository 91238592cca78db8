import pytest

from experiments import budget, commandline, identity
from experiments.errors import UserError
from experiments.preflight import composed


@pytest.mark.parametrize(
    ("config", "steps"), [({"epochs": 3}, 21), ({"steps": 10}, 10), ({"steps": 1}, 1)]
)
def test_total_steps(config, steps):
    assert budget.total_steps(config, steps_per_epoch=7) == steps


@pytest.mark.parametrize(
    ("config", "text"),
    [({"epochs": 3}, "3 epochs"), ({"epochs": 1}, "1 epoch"), ({"steps": 30}, "30 steps")],
)
def test_in_words(config, text):
    assert budget.describe(config) == text


@pytest.mark.parametrize(
    "config", [{}, {"epochs": 0}, {"epochs": 1.5}, {"steps": "4"}, {"days": 1}, {"steps": True}]
)
def test_refuses_what_is_no_budget(config):
    with pytest.raises(UserError, match="Invalid budget"):
        budget.total_steps(config, steps_per_epoch=7)


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
    assert budget.total_steps(config["budget"], steps_per_epoch=7) == 7 * epochs
    assert budget.describe(config["budget"]) == f"{epochs} epochs"


@pytest.mark.parametrize("name", [n for n in commandline.choices("budget") if "paper" in n])
def test_a_paper_budget_has_a_number_for_every_method(name):
    config = composed([f"budget={name}"])
    assert set(config["budget"]["by_optimizer"]) >= set(commandline.choices("optimizer"))


def test_another_methods_number_is_no_part_of_a_runs_id():
    plain = composed(["budget=paper_cifar", "optimizer=adam"])
    changed = composed(["budget=paper_cifar", "optimizer=adam", "budget.by_optimizer.kfac=1"])
    own = composed(["budget=paper_cifar", "optimizer=adam", "budget.by_optimizer.adam=1"])
    assert identity.run_id(plain) == identity.run_id(changed)
    assert identity.run_id(plain) != identity.run_id(own)
