"""Initial weights: what the published runs started from, and what stands here by default."""

import math

import pytest
import torch
from torch import nn

from experiments.config.compose import composed
from experiments.errors import UserError
from experiments.models.gpt import GPT
from experiments.models.initial import draw_as_torch
from tests.experiments.models.test_model_configs import CONFIGS, make
from tests.support.configs import GONE, changed

TORCH = ("resnet18_released", "resnet50_released", "densenet121_released")
GPT1_MINI = {"layers": 1, "heads": 12, "width": 768, "mlp_width": 3072, "norm": "post"}


def gpt(**changes):
    torch.manual_seed(0)
    keywords = {"vocab_size": 9, "context": 4, "dropout": 0.0, "tied_head": True, **GPT1_MINI}
    return GPT(**{**keywords, **changes})


@pytest.mark.parametrize(
    ("model", "layer", "std"),
    [  # of the authors' networks, and of torchvision's draws
        ("resnet18_released", "layer1.0.conv1", 0.024),
        ("resnet18", "layer1.0.conv1", 0.059),
        ("resnet18_released", "conv1", 0.111),
        ("resnet18", "conv1", 0.057),
        ("resnet50_released", "layer3.1.conv1", 0.018),
        ("resnet50", "layer3.1.conv1", 0.088),
    ],
)
def test_named_kernels_have_their_measured_standard_deviation(model, layer, std):
    torch.manual_seed(0)
    weight = make(model).get_submodule(layer).weight
    # A stem has 1,728 entries, and 0.057 is a draw as well: by the formula it is 0.0589.
    assert weight.std().item() == pytest.approx(std, rel=0.08)


@pytest.mark.parametrize(("init", "std"), [("torch", 0.0104), ("gpt", 0.02)])
def test_the_second_layer_of_a_gpts_network_has_its_measured_standard_deviation(init, std):
    weight = gpt(init=init).blocks[0].mlp[2].weight
    assert weight.std().item() == pytest.approx(std, rel=0.02)


@pytest.mark.parametrize("build", [*TORCH, "gpt"])
def test_every_layer_is_uniform_by_its_inputs(build):
    """1 / sqrt(3 fan_in) is the standard deviation of +- 1 / sqrt(fan_in)."""
    torch.manual_seed(0)
    model = gpt(init="torch", tied_head=False) if build == "gpt" else make(build)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = 1 / math.sqrt(module.weight[0].numel())
            own = [module.weight] if module.bias is None else [module.weight, module.bias]
            for drawn in own:
                assert 0 < drawn.abs().max() <= bound
            if module.weight.numel() > 1000:
                spread = module.weight.std().item()
                assert spread == pytest.approx(bound / math.sqrt(3), rel=0.05)
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            assert torch.equal(module.weight, torch.ones_like(module.weight))
            assert not module.bias.any()


@pytest.mark.parametrize("name", TORCH)
def test_the_released_network_is_ours_but_for_the_draw(name):
    plain, released = CONFIGS[name.removesuffix("_released")], CONFIGS[name]
    own = {"init", "suite"}
    assert {k: v for k, v in plain.items() if k not in own} == {
        k: v for k, v in released.items() if k not in own
    }
    assert (plain["init"], released["init"]) == ("torchvision", "torch")
    with torch.device("meta"):
        shapes = [
            {key: value.shape for key, value in make(one).state_dict().items()}
            for one in (name, plain["suite"]["name"])
        ]
    assert shapes[0] == shapes[1]


def test_a_parameter_of_no_layer_is_not_drawn():
    model = nn.Sequential(nn.Linear(2, 3))
    model.free = nn.Parameter(torch.full((2,), 7.0))
    before = model[0].weight.detach().clone()
    draw_as_torch(model)
    assert torch.equal(model.free, torch.full((2,), 7.0))
    assert not torch.equal(model[0].weight, before)


@pytest.mark.parametrize("name", ["resnet18", "resnet50_imagenet", "densenet121", "gpt_tiny"])
def test_the_default_draw_is_no_part_of_an_id(name):
    config = composed([f"model={name}"])
    without = changed(config, {"model.init": GONE})
    assert without.run_id == config.run_id
    other = changed(config, {"model.init": "torch"})
    assert other.run_id != config.run_id


@pytest.mark.parametrize(
    ("build", "own"),
    [
        (lambda init: make("resnet18", init=init), "torchvision"),
        (lambda init: make("densenet121", init=init), "torchvision"),
        (lambda init: gpt(init=init), "gpt"),
    ],
)
def test_an_unknown_draw_is_refused(build, own):
    with (
        torch.device("meta"),
        pytest.raises(UserError, match=rf"Invalid init: 'xavier'\. Must be one of: {own}, torch\."),
    ):
        build("xavier")
