"""Weight decay without norms and biases means the same parameters for every method."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from experiments.engine.build import build_control, build_optimizer
from experiments.errors import UserError
from tests.support.configs import GONE, changed


class Parts(nn.Module):
    """Parameters of every shape and name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3)
        self.linear, self.rows = nn.Linear(4, 3), nn.LayerNorm((3, 4))
        self.attention = nn.MultiheadAttention(4, 2, add_bias_kv=True)
        self.scale, self.table = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(5, 4))


DECAYED = {
    "conv.weight",
    "linear.weight",
    "attention.in_proj_weight",
    "attention.bias_k",  # the name does not end in bias, and it has three axes
    "attention.bias_v",
    "attention.out_proj.weight",
    "table",
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # of parameters without curvature, and of rows
@pytest.mark.parametrize("everywhere", [True, False])
@pytest.mark.parametrize("name", ["adamw", "adafisherw", "scalar"])
def test_what_decays(name: str, everywhere: bool, make_config: Callable[..., Any]) -> None:
    section = make_config(
        f"optimizer={'adafisherw' if name == 'scalar' else name}",
        f"optimizer.decay_norms_and_biases={everywhere}".lower(),
        "optimizer.weight_decay=0.5",
        "optimizer.lr=0.1",
    ).optimizer
    model = Parts()
    if name == "scalar":
        limits: Any = type("Limits", (), {"steps": 1})
        optimizer = build_control(section, model, torch.ones(1), limits)
    else:
        optimizer = build_optimizer(section, model)
    for param in model.parameters():
        nn.init.ones_(param)
        param.grad = torch.zeros_like(param)
    optimizer.step()
    moved = {name for name, param in model.named_parameters() if not torch.all(param == 1.0)}
    assert moved == ({name for name, _ in model.named_parameters()} if everywhere else DECAYED)


@pytest.mark.parametrize("name", ["adamw", "adafisherw"])
def test_run_id_changes_with_the_choice_alone(name: str, make_config: Callable[..., Any]) -> None:
    made = make_config(f"optimizer={name}")
    before = changed(made, {"optimizer.decay_norms_and_biases": GONE})
    other = make_config(f"optimizer={name}", "optimizer.decay_norms_and_biases=false")
    assert made.run_id == before.run_id != other.run_id


@pytest.mark.parametrize("name", ["adamw", "adafisherw"])
def test_value_that_is_no_choice_is_refused(name: str, make_config: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"Invalid .*decay_norms_and_biases: 'some'. Must be "):
        make_config(f"optimizer={name}", "optimizer.decay_norms_and_biases=some")
    made = make_config(f"optimizer={name}").optimizer.having(decay_norms_and_biases="some")
    with pytest.raises(UserError, match=r"Invalid .*decay_norms_and_biases: 'some'. Must be "):
        build_optimizer(made, Parts())
