"""Layers that a user registers, and which rule a module gets."""

import pytest
import torch
from torch import Tensor, nn

from adafisher import AdaFisher, register_layer
from adafisher.capture.calls import overrides_forward
from adafisher.layers import registry
from tests.support.reference import ReferenceAdaFisher


class Dense(nn.Module):
    """A user's linear layer: other names, inputs first."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(d_in, d_out) * 0.4)
        self.shift = nn.Parameter(torch.randn(d_out) * 0.4)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.kernel + self.shift


class ChannelScale(nn.Module):
    """A user's scale of channels, ``[1, channels, 1, 1]``."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.randn(1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class ScaleOnly(nn.Module):
    """``ChannelScale`` as the batch norm without a shift that its curvature is that of."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = Identified(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


class Identified(nn.GroupNorm):
    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)
        self.bias = None  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.view(-1, 1, 1)


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTERED", {})


def test_unregistered_layer_is_not_supported() -> None:
    with pytest.raises(ValueError, match=r"none of the layers .* or of a registered type"):
        AdaFisher(Dense(4, 3))


def test_registered_layer_follows_the_linear_layer_that_it_is() -> None:
    register_layer(Dense, form="transposed", weight="kernel", bias="shift")
    dense = nn.Sequential(Dense(4, 6), nn.Tanh(), Dense(6, 3)).double()
    linear = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    for ours, theirs in zip(dense, linear, strict=True):
        if isinstance(ours, Dense):
            theirs.weight.data = ours.kernel.data.T.clone()
            theirs.bias.data = ours.shift.data.clone()
    optimizers = AdaFisher(dense), AdaFisher(linear)
    for step in range(8):
        x = torch.randn(5, 4, generator=torch.Generator().manual_seed(step)).double()
        for model, optimizer in zip((dense, linear), optimizers, strict=True):
            (0.05 * model(x).square().mean()).backward()
            optimizer.step()
            optimizer.zero_grad()
        for i in (0, 2):
            torch.testing.assert_close(dense[i].kernel, linear[i].weight.T, rtol=0, atol=1e-12)
            torch.testing.assert_close(dense[i].shift, linear[i].bias, rtol=0, atol=1e-12)


def test_registered_scale_has_rows_of_its_own() -> None:
    def rows(_layer: nn.Module, x: Tensor) -> Tensor:
        return x.movedim(1, -1).reshape(-1, 4)

    register_layer(
        ChannelScale, form="scale", weight="gamma", bias=None, input_rows=rows, grad_rows=rows
    )
    ours, theirs = ChannelScale().double(), ScaleOnly().double()
    theirs.norm.weight.data = ours.gamma.data.flatten().clone()
    optimizer, reference = AdaFisher(ours), ReferenceAdaFisher(theirs)
    for step in range(8):
        x = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(step)).double()
        for model, stepper in ((ours, optimizer), (theirs, reference)):
            (0.05 * model(x).square().mean()).backward()
            stepper.step()
            model.zero_grad()
        torch.testing.assert_close(ours.gamma.flatten(), theirs.norm.weight, rtol=0, atol=1e-12)


def test_registered_base_counts_for_its_subclasses_and_again_replaces() -> None:
    class Derived(Dense):
        pass

    register_layer(Dense, form="transposed", weight="kernel", bias="shift")
    assert AdaFisher(Derived(4, 3)).coverage().curvature == ("kernel", "shift")
    register_layer(Dense, form="transposed", weight="kernel", bias=None)
    with pytest.warns(UserWarning, match="shift"):
        assert AdaFisher(Derived(4, 3)).coverage().curvature == ("kernel",)


def test_registration_goes_before_the_built_in_rule() -> None:
    register_layer(nn.Linear, bias=None)
    with pytest.warns(UserWarning, match="1 of 2 trainable"):
        assert AdaFisher(nn.Linear(4, 3)).coverage().curvature == ("weight",)


def test_bad_registrations() -> None:
    with pytest.raises(TypeError, match=r"Invalid kind: 'Linear'. Must be a subclass"):
        register_layer("Linear")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Invalid form: 'dense'. Must be one of linear, tr"):
        register_layer(Dense, form="dense")  # type: ignore[arg-type]


def test_sync_batch_norm_has_the_rule_of_batch_norm() -> None:
    module = nn.SyncBatchNorm(4)
    found = registry.find_rule(module, "per_channel")
    plain = registry.find_rule(nn.BatchNorm2d(4), "per_channel")
    assert found is not None
    assert plain is not None
    assert found.rule == plain.rule
    # Its forward pass is its own: it must not be watched as a subclass that overrides another's.
    assert not overrides_forward(module, found.base)


def test_embeddings_have_curvature_only_when_asked() -> None:
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 3))
    with pytest.warns(UserWarning, match=r"1 of 3 .*: 0\.weight$"):
        assert AdaFisher(model).coverage().identity == ("0.weight",)
    assert AdaFisher(model, embeddings=True).coverage().identity == ()
