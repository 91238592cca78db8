import pytest

from experiments import budget
from experiments.errors import UserError


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
