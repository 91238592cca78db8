"""Weights that a parent reads, seen as if their layers had been called."""

from collections.abc import Callable
from typing import Any

import pytest
import timm.models.beit
import timm.models.eva
import timm.models.swin_transformer_v2
import torch
import torch.nn.functional as F
import torchvision.models.video.swin_transformer
from torch import Tensor, nn

from adafisher import AdaFisher
from tests.support.cases import Case, loss_of
from tests.support.side_by_side import SideBySide


class Called(nn.Module):
    """Layers that are called, by the names that the parents below have for them."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.qkv(x).tanh())


class ByFunction(Called):
    def forward(self, x: Tensor) -> Tensor:
        return chained(x, self.qkv.weight, self.qkv.bias, self.proj.weight, b=self.proj.bias)


def chained(x: Tensor, v: Tensor, a: Tensor, w: Tensor, *, b: Tensor) -> Tensor:
    """As torchvision writes its shifted windows: one function that is handed all weights."""
    return F.linear(F.linear(x, v, a).tanh(), w, b)


class Inherited(ByFunction):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class ByMethod(Called):
    def forward(self, x: Tensor) -> Tensor:
        return self.read(x)

    def read(self, x: Tensor) -> Tensor:
        steps = [lambda x: F.linear(x, self.qkv.weight, self.qkv.bias).tanh(), self.proj]
        for step in steps:
            x = step(x)
        return x


class BiasAddedAfterwards(Called):
    def forward(self, x: Tensor) -> Tensor:
        return self.proj((F.linear(x, self.qkv.weight) + self.qkv.bias).tanh())


class CalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x).tanh())


class CalledAndRead(CalledTwice):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.layer(x).tanh(), self.layer.weight, self.layer.bias)


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Called()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class FromAbove(Outer):
    """A parent's parent reads the weights, in the place of both."""

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.linear(x, self.inner.qkv.weight, self.inner.qkv.bias).tanh()
        return F.linear(hidden, self.inner.proj.weight, self.inner.proj.bias)


class MadeBias(nn.Module):
    """As in BEiT: the bias is put together of others, or added to what the layer returns."""

    def __init__(self, added: bool) -> None:
        super().__init__()
        self.qkv, self.added = nn.Linear(4, 6, bias=False), added
        self.q_bias, self.v_bias = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        if self.added:
            return self.qkv(x) + bias
        return F.linear(x, weight=self.qkv.weight, bias=bias)


class ConvolutionAndNorm(nn.Module):
    def __init__(self, read: bool) -> None:
        super().__init__()
        self.conv, self.norm, self.read = nn.Conv2d(2, 3, 2, stride=2), nn.LayerNorm(3), read

    def forward(self, x: Tensor) -> Tensor:
        if not self.read:
            return self.norm(self.conv(x).movedim(1, -1))
        x = F.conv2d(x, self.conv.weight, self.conv.bias, 2).movedim(1, -1)
        return F.layer_norm(x, (3,), self.norm.weight, self.norm.bias)


class Projections(nn.Module):
    """As in WavLM: the layers of an attention are handed to torch's function."""

    def __init__(self, read: bool) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(4, 4) for _ in range(4))
        self.read = read

    def forward(self, x: Tensor) -> Tensor:
        if not self.read:
            q, k, v = (p(x).transpose(0, 1) for p in (self.q, self.k, self.v))
            return self.out(F.scaled_dot_product_attention(q, k, v).transpose(0, 1))
        bias = torch.cat((self.q.bias, self.k.bias, self.v.bias))
        options: dict[str, Any] = {
            "use_separate_proj_weight": True,
            "q_proj_weight": self.q.weight,
            "k_proj_weight": self.k.weight,
            "v_proj_weight": self.v.weight,
        }
        return F.multi_head_attention_forward(
            *(x, x, x, 4, 1, torch.empty(0), bias, None, None, False, 0.0),
            *(self.out.weight, self.out.bias),
            **options,
        )[0]


CASES = [
    Case("by_function", ByFunction, (5, 4), reference=Called),
    Case("inherited", Inherited, (5, 4), reference=Called),
    Case("by_method", ByMethod, (5, 4), reference=Called),
    Case("bias_added_afterwards", BiasAddedAfterwards, (5, 4), reference=Called),
    Case("from_above", FromAbove, (5, 4), reference=Outer),
    Case("called_and_read", CalledAndRead, (5, 4), reference=CalledTwice),
    Case("made_bias", lambda: MadeBias(False), (5, 4), reference=lambda: MadeBias(True)),
    Case(
        "convolution_and_norm",
        lambda: ConvolutionAndNorm(True),
        (3, 2, 4, 4),
        reference=lambda: ConvolutionAndNorm(False),
    ),
    Case("projections", lambda: Projections(True), (3, 2, 4), reference=lambda: Projections(False)),
]


@pytest.mark.filterwarnings("ignore:.*2 of 3 trainable parameters are in no supported:UserWarning")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_weights_that_a_parent_reads(case: Case) -> None:
    side = SideBySide(case)
    side.train(range(4))
    assert side.optimizer.coverage().partial == ()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_parent_is_watched() -> None:
    torch._dynamo.reset()
    (case,) = (case for case in CASES if case.id == "by_function")
    side = SideBySide(case)
    run = torch.compile(side.model, backend="aot_eager")
    for index in range(3):
        loss_of(run(case.batch(index)), index).backward()
        loss_of(side.reference_model(case.batch(index)), index).backward()
        side.step()
        side.compare()


SHIFTED = torchvision.models.video.swin_transformer.ShiftedWindowAttention3d
FOUND: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "beit": (lambda: timm.models.beit.Attention(8, 2, qkv_bias=True), (2, 5, 8)),
    "eva": (lambda: timm.models.eva.EvaAttention(8, 2, norm_layer=nn.LayerNorm), (2, 5, 8)),
    "swin_v2": (
        lambda: timm.models.swin_transformer_v2.WindowAttention(8, (2, 2), 2),
        (3, 4, 8),
    ),
    "swin_3d": (lambda: SHIFTED(8, [2, 2, 2], [0, 0, 0], 2), (1, 2, 4, 4, 8)),
}


@pytest.mark.filterwarnings("ignore:.*in no supported layer:UserWarning")
@pytest.mark.parametrize("name", FOUND)
def test_attention_of_libraries_has_all_of_its_rows(name: str) -> None:
    build, shape = FOUND[name]
    model = build()
    optimizer = AdaFisher(model)
    x = torch.randn(shape)
    model(x).square().mean().backward()
    layers = optimizer.state_dict()["curvature"]["layers"]
    assert {layers[name]["rows"] for name in ("qkv", "proj")} == {x.numel() // x.shape[-1]}
    optimizer.step()
    assert optimizer.coverage().identity_steps == {}


def test_layers_that_are_called_are_not_watched_by_call() -> None:
    """Torch's encoder layer names its weights for a path of inference only."""
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    capture = AdaFisher(model)._curvature.capture
    assert set(capture._read) == {model.self_attn}
