"""Layers known by name: stand-ins of the same names and structure, beside rows taken here."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adafisher import AdaFisher
from adafisher.layers.registry import find_rule

DAMPING = 1e-3


class Conv1D(nn.Module):
    """As in GPT-2: the weight is ``[d_in, d_out]``."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight = nn.Parameter(torch.randn(nx, nf))
        self.bias = nn.Parameter(torch.randn(nf))

    def forward(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:-1], self.nf)
        return torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight).view(shape)


class Linear(nn.Module):
    """As in torch_geometric."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels))
        self.bias = nn.Parameter(torch.randn(out_channels)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class LlamaRMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)

    def normalized(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.weight * self.normalized(hidden_states)


class T5LayerNorm(LlamaRMSNorm):
    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.normalized(hidden_states) * self.weight


class GemmaRMSNorm(LlamaRMSNorm):
    def forward(self, x: Tensor) -> Tensor:
        return self.normalized(x) * (1.0 + self.weight)


class GraphLayerNorm(LlamaRMSNorm):
    """With a shift, and further arguments that may be left out."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.bias = nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor, batch: Tensor | None = None) -> Tensor:
        return self.normalized(x) * self.weight + self.bias


class RmsNorm2d(LlamaRMSNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ChannelsFirstLayerNorm(RmsNorm2d):
    data_format = "channels_first"


class StdConv2d(nn.Conv2d):
    def standardized(self) -> Tensor:
        rows = self.weight.flatten(1)
        rows = (rows - rows.mean(1, keepdim=True)) / rows.std(1, keepdim=True)
        return rows.view_as(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.standardized()
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class ScaledStdConv2dSame(StdConv2d):
    """Pads its input, and has a gain a channel."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.ones(self.out_channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.gain * self.standardized()
        return F.conv2d(F.pad(x, (0, 1, 1, 1)), weight, self.bias, self.stride)


class Kept(nn.Module):
    """Keeps what went in and came out, with the gradient there."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.rows: list[tuple[Tensor, Tensor]] = []

    def forward(self, *inputs: Tensor) -> Tensor:
        output: Tensor = self.layer(*inputs)
        output.retain_grad()
        self.rows.append((inputs[0], output))
        return output


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*in no supported layer")
        yield


def min_max(x: Tensor) -> Tensor:
    return (x - x.min()) / (x.max() - x.min())


def trained(layer: nn.Module, *inputs: Tensor, **options: Any) -> tuple[AdaFisher, Kept]:
    """One step of a loss that gives every row a gradient of its own."""
    model = Kept(layer.double())
    optimizer = AdaFisher(model, damping=DAMPING, **options)
    output = model(*inputs)
    weights = torch.randn(output.shape, dtype=torch.float64)
    (weights * output.tanh()).sum().backward()
    optimizer.step()
    return optimizer, model


def close(actual: Tensor | None, expected: Tensor) -> None:
    assert actual is not None
    torch.testing.assert_close(actual, expected + DAMPING, rtol=0, atol=1e-9)


def rows_of(model: Kept, axis: int = -1) -> tuple[Tensor, Tensor]:
    """Input and output gradient, ``[rows, d]``."""
    (x, output), *_ = model.rows
    assert output.grad is not None
    return tuple(t.movedim(axis, -1).flatten(0, -2) for t in (x, output.grad))  # type: ignore[return-value]


@pytest.mark.parametrize("build", [lambda: Conv1D(5, 4), lambda: Linear(4, 5, bias=True)])
def test_matrices(build: Callable[[], Any]) -> None:
    optimizer, model = trained(build(), torch.randn(3, 7, 4).double())
    x, grad = rows_of(model)
    h = min_max(F.pad(x.square().mean(0), (0, 1), value=1.0))
    s = min_max(grad.square().mean(0))
    layer: Any = model.layer
    expected = torch.outer(s, h[:-1])
    close(
        optimizer.fisher_diag(layer.weight),
        expected if expected.shape == layer.weight.shape else expected.T,
    )
    close(optimizer.fisher_diag(layer.bias), s * h[-1])


def test_linear_without_a_bias() -> None:
    optimizer, model = trained(Linear(4, 5, bias=False), torch.randn(3, 7, 4).double())
    x, grad = rows_of(model)
    h, s = min_max(x.square().mean(0)), min_max(grad.square().mean(0))
    layer: Any = model.layer
    close(optimizer.fisher_diag(layer.weight), torch.outer(s, h))


SCALES = [
    (LlamaRMSNorm, -1),
    (T5LayerNorm, -1),
    (GemmaRMSNorm, -1),
    (GraphLayerNorm, -1),
    (RmsNorm2d, 1),
    (ChannelsFirstLayerNorm, 1),
]


@pytest.mark.parametrize(("kind", "axis"), SCALES)
def test_scales(kind: Any, axis: int) -> None:
    shape = (3, 7, 4) if axis == -1 else (3, 4, 5, 6)
    layer = kind(4).double()
    optimizer, model = trained(layer, torch.randn(shape).double())
    x, grad = rows_of(model, axis)
    h, s = min_max(x.square().mean(0)), min_max(grad.square().mean(0))
    close(optimizer.fisher_diag(layer.weight), h * s)
    if hasattr(layer, "bias"):
        close(optimizer.fisher_diag(layer.bias), s)
    # The form itself: the gradient of a scale is the output gradient times what is scaled.
    scaled = layer.normalized(x)
    torch.testing.assert_close(layer.weight.grad, (grad * scaled).sum(0))


def test_a_wrapper_made_at_run_time_has_the_form_of_what_it_wraps() -> None:
    layer = Conv1D(5, 4)
    layer.__class__ = type("FSDPConv1D", (Conv1D,), {})
    assert AdaFisher(layer).coverage().identity == ()


@pytest.mark.parametrize("kind", [StdConv2d, ScaledStdConv2dSame])
def test_standardised_convolutions(kind: Any) -> None:
    layer = kind(2, 3, 3, stride=2)
    optimizer, model = trained(layer, torch.randn(4, 2, 7, 6).double())
    x, _ = model.rows[0]
    if kind is ScaledStdConv2dSame:
        x = F.pad(x, (0, 1, 1, 1))
    patches = F.unfold(x, 3, stride=2).movedim(1, -1).flatten(0, -2)
    _, grad = rows_of(model, 1)
    h = min_max(F.pad(patches.square().mean(0), (0, 1), value=1.0))
    s = min_max(grad.square().mean(0))
    close(optimizer.fisher_diag(layer.weight), torch.outer(s, h[:-1]).view_as(layer.weight))
    close(optimizer.fisher_diag(layer.bias), s * h[-1])
    assert optimizer.coverage().partial == ()
    assert optimizer.coverage().identity_steps == {}


BAGS: list[tuple[dict[str, Any], tuple[Any, ...]]] = [
    ({"mode": "sum"}, ([[1, 1, 2], [0, 5, 3]],)),
    ({"mode": "mean", "padding_idx": 0}, ([[1, 1, 0], [2, 5, 3]],)),
    ({"mode": "mean"}, ([1, 1, 4, 2, 5], [0, 3])),
    ({"mode": "sum", "include_last_offset": True}, ([1, 1, 4, 2, 5], [0, 2, 5])),
    ({"mode": "sum"}, ([1, 1, 4, 2, 5], [0, 3], [0.5, 2.0, -1.0, 1.5, 3.0])),
]


@pytest.mark.parametrize(("options", "inputs"), BAGS)
def test_bags_of_embeddings(options: dict[str, Any], inputs: tuple[Any, ...]) -> None:
    layer: Any = nn.EmbeddingBag(6, 3, **options)
    tensors = [torch.tensor(value) for value in inputs]
    if len(tensors) == 3:
        tensors[2] = tensors[2].double()
    optimizer, model = trained(layer, *tensors, embeddings=True)
    _, output = model.rows[0]
    grad = output.grad
    # y = h E is linear in the table, so that h is the Jacobian by one of its columns.
    table = layer.weight.detach().clone().requires_grad_()
    arguments = {"per_sample_weights": tensors[2]} if len(tensors) == 3 else {}
    again = torch.func.functional_call(layer, {"weight": table}, tuple(tensors[:2]), arguments)
    jacobian = torch.stack(
        [torch.autograd.grad(again[b, 0], table, retain_graph=True)[0][:, 0] for b in range(2)]
    )
    h, s = min_max(jacobian.square().mean(0)), min_max(grad.square().mean(0))
    close(optimizer.fisher_diag(layer.weight), torch.outer(h, s))


def test_bags_follow_the_option_and_a_maximum_has_no_form() -> None:
    head = nn.Linear(3, 2)
    plain = AdaFisher(nn.Sequential(nn.EmbeddingBag(6, 3), head)).coverage()
    assert plain.identity == ("0.weight",)
    largest = nn.Sequential(nn.EmbeddingBag(6, 3, mode="max"), head)
    assert AdaFisher(largest, embeddings=True).coverage().identity == ("0.weight",)


class MambaRMSNormGated(LlamaRMSNorm):
    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        return super().forward(x)


class WideRMSNorm(LlamaRMSNorm):
    def __init__(self) -> None:
        super().__init__(4)
        self.weight = nn.Parameter(torch.ones(2, 4))


class ExtraRMSNorm(LlamaRMSNorm):
    def __init__(self) -> None:
        super().__init__(4)
        self.scale = nn.Parameter(torch.ones(()))


class Activated(LlamaRMSNorm):
    """What it returns is not what the scale gave, and its name says nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


def test_a_name_without_the_structure_has_no_form() -> None:
    square = Linear(4, 5, bias=True)
    square.out_channels = 4
    transposed = Conv1D(5, 4)
    transposed.nf = 4
    others = [MambaRMSNormGated(4), WideRMSNorm(), ExtraRMSNorm(), Activated(4), square, transposed]
    assert [find_rule(layer, "per_channel", True) for layer in others] == [None] * 6


def test_a_call_of_another_shape_brings_no_rows() -> None:
    class TokensRMSNorm(LlamaRMSNorm):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.mT).mT

    model = nn.Sequential(TokensRMSNorm(4), nn.Linear(3, 2))
    optimizer = AdaFisher(model)
    model(torch.randn(5, 4, 3)).square().sum().backward()
    with pytest.warns(UserWarning, match="no rows came with the gradients of '0'"):
        optimizer.step()
    assert optimizer.coverage().identity_steps == {"0.weight": 1}


def test_two_vector_norms_have_their_form_too() -> None:
    model = nn.Sequential(LlamaRMSNorm(4))
    optimizer = AdaFisher(model, norm_layers="two_vector")
    model(torch.randn(5, 3, 4)).square().sum().backward()
    optimizer.step()
    layer: Any = model[0]
    assert optimizer.fisher_diag(layer.weight) is not None
