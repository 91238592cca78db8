"""The definitions that are ours: against their equations, and every parameter trains."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adafisher import AdaFisherW
from experiments.errors import UserError
from experiments.models import cct, densenet, focalnet, mobilenetv3, swin
from tests.experiments.models.test_model_configs import CIFAR, make

SIZES = {"in_channels": 3, "num_classes": 10, "image_size": 32}
SMALL = ("cct_2_3x2", "cct_2_3x2_released")
# Free parameters, which belong to no layer.
FREE = ("positions", "relative_position_bias_table", "cls_token", "pos_embed")


def randomise(model: nn.Module) -> None:
    """Move norms, biases and what starts at zero to where an error shows."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))


def sides_after(model: nn.Module, names: list[str], size: int) -> list[int]:
    found = []
    for name in names:
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output: found.append(output.shape)
        )
    model(torch.zeros(2, 3, size, size))
    return [shape[-1] if shape[-1] == shape[-2] else shape[1] for shape in found]


@pytest.mark.parametrize(
    ("name", "layers", "sides"),
    [
        ("densenet121", ["features.pool0", "features.norm5"], [32, 4]),
        ("mobilenetv3", ["features.0", "features.2", "features.16"], [32, 32, 4]),
        ("mobilenetv3_released", ["features.0", "features.2", "features.16"], [32, 32, 4]),
        ("swin_t", [f"layers.{stage}" for stage in range(4)], [16, 8, 4, 2]),
        ("swin_t_released", [f"stages.{stage}" for stage in range(4)], [16, 8, 4, 4]),
        ("focalnet", [f"layers.{stage}" for stage in range(4)], [16, 8, 4, 2]),
        ("focalnet_released", [f"layers.{stage}" for stage in range(4)], [16, 8, 4, 2]),
        ("cct_2_3x2", ["tokenizer.2", "tokenizer.5"], [16, 8]),
    ],
)
@pytest.mark.parametrize("scale", [1, 2])
def test_maps_have_the_sizes_of_the_stem(name, layers, sides, scale):
    with torch.device("meta"):
        model = make(name, size=32 * scale)
        assert sides_after(model, layers, 32 * scale) == [scale * side for side in sides]


@pytest.mark.parametrize(
    ("size", "sides"),
    [(32, [18, 9]), (64, [34, 17])],  # (32 + 2 * 3 - 3) // 2 + 1, then a pooling that halves
)
def test_the_released_cct_pads_by_three(size, sides):
    with torch.device("meta"):
        model = make("cct_2_3x2_released", size=size)
        assert sides_after(model, ["tokenizer.0", "tokenizer.2"], size) == sides
    assert model.positions.shape == (1, sides[-1] ** 2, 256)


@pytest.mark.parametrize(
    ("name", "tokens", "parameters"),
    [("cct_2_3x2_released", 81, 821_003), ("cct_2_3x2", 64, 283_723)],
)
def test_a_cct_has_its_published_size(name, tokens, parameters):
    with torch.device("meta"):
        model = make(name)
    assert model.positions.shape[1] == tokens
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_the_released_transformers_drop_branches_as_there():
    """0 to 0.1, linearly over the blocks, in CCT and FocalNet alike."""
    with torch.device("meta"):
        rates = [block.drop_path.drop_prob for block in make("cct_2_3x2_released").blocks]
        blocks = [block for stage in make("focalnet_released").layers for block in stage.blocks]
    assert rates == [0.0, 0.1]
    assert len(blocks) == 12
    for number, block in enumerate(blocks):
        rate = getattr(block.drop_path1, "drop_prob", 0.0)  # timm has no module where it is 0
        assert rate == pytest.approx(0.1 * number / 11)


def test_a_full_convolution_with_a_diagonal_kernel_is_the_depthwise_one():
    torch.manual_seed(0)
    options = {"patch_size": 2, "embed_dim": 8, "focal_levels": 2, "focal_window": 3}
    options |= {"drop_path": 0.0, **SIZES}
    grouped = focalnet.build(**options, ungrouped=False).double().eval()
    full = focalnet.build(**options, ungrouped=True).double().eval()
    randomise(grouped)
    state = grouped.state_dict()
    for key, target in full.state_dict().items():
        if target.shape != state[key].shape:
            channels = target.shape[0]
            dense = torch.zeros_like(target)
            dense[range(channels), range(channels)] = state[key][:, 0]
            state[key] = dense
    full.load_state_dict(state)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(full(images), grouped(images), rtol=1e-10, atol=1e-10)


def test_the_released_mobilenet_has_no_grouped_convolution_and_gates_before_the_activation():
    with torch.device("meta"):
        model = make("mobilenetv3_released")
    convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert {conv.groups for conv in convs} == {1}
    assert not any(conv.bias is not None for conv in convs)
    gated = [m for m in model.modules() if isinstance(m, mobilenetv3.UngroupedResidual)]
    kinds = [[type(part).__name__ for part in block.block[-2]] for block in gated]
    assert [len(kind) for kind in kinds].count(4) == 8  # Howard et al., Table 1: eight with SE
    for kind in kinds:
        assert kind[:2] == ["Conv2d", "BatchNorm2d"]
        assert kind[2:-1] in ([], ["SqueezeExcite"])
        assert kind[-1] in ("ReLU", "Hardswish")


def test_the_gates_can_be_differentiated_twice():
    """AdaHessian does; torch's own hard sigmoid is the reference for the values."""
    inputs = torch.linspace(-5, 5, 41, dtype=torch.float64, requires_grad=True)
    outputs = mobilenetv3.HardSigmoid()(inputs)
    torch.testing.assert_close(outputs, F.hardsigmoid(inputs))
    (first,) = torch.autograd.grad(outputs.square().sum(), inputs, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), inputs)
    inside = inputs.detach().abs() < 3
    assert torch.equal(second[inside], torch.full_like(second[inside], 2 / 36))
    with torch.device("meta"):
        model = make("mobilenetv3")
    assert not any(isinstance(module, nn.Hardsigmoid) for module in model.modules())


def test_squeeze_and_excitation_follows_the_equation():
    torch.manual_seed(0)
    layer = mobilenetv3.SqueezeExcite(8).double()
    maps = 4 * torch.randn(2, 8, 3, 3, dtype=torch.float64)
    down, up = layer.gate[1].weight[:, :, 0, 0], layer.gate[3].weight[:, :, 0, 0]
    gates = (((maps.mean((2, 3)) @ down.T).clamp(min=0) @ up.T + 3) / 6).clamp(0, 1)
    torch.testing.assert_close(layer(maps), maps * gates[:, :, None, None])


def test_densenet_starts_with_one_convolution():
    torch.manual_seed(0)
    model = densenet.build(dropout=0.0, **SIZES).double().eval()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    first = model.features[:4](images)
    expected = F.conv2d(images, model.features.conv0.weight, padding=1)
    torch.testing.assert_close(first, expected)


def layer_norm(hidden: torch.Tensor, norm: nn.LayerNorm) -> torch.Tensor:
    centred = hidden - hidden.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + (
        norm.bias
    )


def attend(tokens: torch.Tensor, layer: nn.Module, heads: int, bias: torch.Tensor) -> torch.Tensor:
    """Multi-head attention of ``[B, T, D]``, head by head; ``bias`` is ``[T, T]``."""
    query, key, value = (tokens @ layer.qkv.weight.T).chunk(3, -1)
    size = tokens.shape[-1] // heads
    mixed = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = torch.einsum("bid,bjd->bij", query[..., part], key[..., part]) / math.sqrt(size)
        mixed.append((scores + bias).softmax(-1) @ value[..., part])
    return torch.cat(mixed, -1) @ layer.proj.weight.T + layer.proj.bias


def linear(x: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    return x @ layer.weight.T + layer.bias


@pytest.mark.parametrize(("convolutions", "stride", "padding"), [(2, 1, 1), (1, 2, 3), (2, 3, 0)])
def test_cct_follows_the_equations(convolutions, stride, padding):
    torch.manual_seed(0)
    rates = {"dropout": 0.1, "attention_dropout": 0.1, "drop_path": 0.1}
    shape = {"width": 16, "layers": 2, "heads": 2, "mlp_ratio": 1.5}
    stem = {"convolutions": convolutions, "stride": stride, "padding": padding}
    model = cct.CCT(**stem, **shape, **rates, **SIZES)
    model = model.double().eval()
    randomise(model)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    hidden = images
    for number in range(convolutions):
        kernel = model.tokenizer[3 * number].weight
        hidden = F.conv2d(hidden, kernel, stride=stride, padding=padding)
        hidden = F.max_pool2d(hidden.clamp(min=0), 3, stride=2, padding=1)
    tokens = hidden.flatten(2).mT + model.positions
    none = torch.zeros(tokens.shape[1], tokens.shape[1], dtype=torch.float64)
    for block in model.blocks:
        normed = layer_norm(tokens, block.attention_norm)
        tokens = tokens + attend(normed, block.attention, 2, none)
        tokens = layer_norm(tokens, block.mlp_norm)
        tokens = tokens + linear(F.gelu(linear(tokens, block.mlp[0])), block.mlp[3])
    tokens = layer_norm(tokens, model.norm)
    weights = linear(tokens, model.pooling).softmax(1)
    expected = linear(torch.einsum("bti,btd->bd", weights, tokens), model.head)
    torch.testing.assert_close(model(images), expected, rtol=1e-10, atol=1e-10)


def window_bias(side: int, window: int, shift: int, table: torch.Tensor) -> torch.Tensor:
    """What is added to the scores of all pairs of ``side**2`` places: a bias, or minus infinity.

    Two places see each other if they lie in one window of the map moved by ``shift``, and the move
    has not brought them there over the edge.
    """
    bias = torch.full((side**2, side**2), -math.inf, dtype=torch.float64)
    places = [(row, column) for row in range(side) for column in range(side)]
    for i, first in enumerate(places):
        for j, second in enumerate(places):
            moved = [[(x - shift) % side for x in place] for place in (first, second)]
            same = all(a // window == b // window for a, b in zip(*moved, strict=True))
            torn = any((a < shift) != (b < shift) for a, b in zip(first, second, strict=True))
            if same and not torn:
                down, right = (a - b + window - 1 for a, b in zip(*moved, strict=True))
                bias[i, j] = table[down * (2 * window - 1) + right, 0]
    return bias


@pytest.mark.parametrize("side", [2, 4, 8])
@pytest.mark.parametrize("shifted", [False, True])
def test_a_block_of_the_released_swin_follows_the_equations(side, shifted):
    torch.manual_seed(0)
    block = swin._block(12, side, 3, window=2, shifted=shifted).double()
    randomise(block)
    hidden = torch.randn(2, side, side, 12, dtype=torch.float64)
    tokens = hidden.flatten(1, 2)
    shift = 1 if shifted and side > 2 else 0  # one window has nothing to exchange with
    bias = window_bias(side, 2, shift, block.attn.relative_position_bias_table)
    tokens = tokens + attend(layer_norm(tokens, block.norm1), block.attn, 3, bias)
    mlp = block.mlp
    tokens = tokens + linear(F.gelu(linear(layer_norm(tokens, block.norm2), mlp.fc1)), mlp.fc2)
    torch.testing.assert_close(
        block(hidden), tokens.unflatten(1, (side, side)), rtol=1e-9, atol=1e-9
    )


def test_patches_merge_by_one_linear_layer():
    torch.manual_seed(0)
    merging = swin.PatchMerging(3, 5, 2)
    hidden = torch.randn(2, 6, 6, 3)
    out = merging(hidden)
    patch = hidden[1, 2:4, 4:6].permute(2, 0, 1).flatten()  # row 1, column 2 of the patches
    expected = merging.merge.weight.flatten(1) @ patch + merging.merge.bias
    torch.testing.assert_close(out[1, 1, 2], expected)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: make("focalnet", size=20), r"Invalid image_size: 20\. Must be a multiple of 16"),
        (lambda: make("vit_s", size=30), r"Invalid patch_size: 4\. Must divide image_size 30"),
        (lambda: make("swin_t", size=31), r"Invalid patch_size: 2\. Must divide image_size 31"),
        (lambda: make("swin_t_released", size=24), r"Invalid image_size: 24\. Stage 3 cuts"),
        (
            lambda: cct.CCT(
                **{"convolutions": 1, "stride": 1, "width": 9, "layers": 1, "heads": 2},
                **{"mlp_ratio": 1.0, "dropout": 0.0, "attention_dropout": 0.0, "drop_path": 0.0},
                **SIZES,
            ),
            r"Invalid heads: 2\. Must divide width 9",
        ),
        (lambda: make("cct_2_3x2", size=3, padding=0), r"Invalid padding: 0\. 3 pixels leave no"),
        (lambda: make("cct_2_3x2", padding=-1), r"Invalid padding: -1\. Must be a whole number >="),
        (lambda: make("cct_2_3x2", padding=1.5), r"Invalid padding: 1\.5\. Must be a whole number"),
    ],
)
def test_an_impossible_size_is_refused(build, message):
    with torch.device("meta"), pytest.raises(UserError, match=message):
        build()


def train_two_steps(name: str) -> None:
    torch.manual_seed(0)
    model = make(name).train()
    optimizer = AdaFisherW(model, lr=1e-2)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    images, targets = torch.randn(4, 3, 32, 32), torch.arange(4)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model(images), targets).backward()
        optimizer.step()
    still = [key for key, value in model.named_parameters() if torch.equal(value, before[key])]
    assert still == []
    coverage = optimizer.coverage()
    assert all(key.endswith(FREE) for key in coverage.identity)
    assert coverage.identity_steps == {}
    assert coverage.dropped == {}
    assert {*coverage.curvature, *coverage.identity} == set(before)


@pytest.mark.filterwarnings("ignore:AdaFisherW. .* are in no supported layer:UserWarning")
@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_of_a_small_model_trains(name):
    train_two_steps(name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:AdaFisherW. .* are in no supported layer:UserWarning")
@pytest.mark.parametrize("name", [name for name in CIFAR if name not in SMALL])
def test_every_parameter_of_a_large_model_trains(name):
    train_two_steps(name)


@pytest.mark.parametrize("name", ["focalnet", "swin_t", "swin_t_released", "cct_2_3x2", "vit_s"])
def test_a_hole_of_zeros_in_an_image_is_no_cliff(name):
    """Cutout leaves patches of zeros, which a norm must not see as exactly zero."""
    torch.manual_seed(0)
    model = make(name)
    images = torch.randn(2, 3, 32, 32)
    images[:, :, 4:20, 4:20] = 0
    F.cross_entropy(model(images), torch.tensor([0, 1])).backward()
    assert max(param.grad.abs().max() for param in model.parameters()) < 100
