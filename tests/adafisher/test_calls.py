"""Layers that are read through functional calls."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils.checkpoint import checkpoint

from adafisher import AdaFisher
from tests.support.cases import BY_ID, loss_of
from tests.support.side_by_side import SideBySide

ATTENTION = BY_ID["attention_self"]


def no_mode_is_left() -> bool:
    return not _get_current_function_mode_stack()


@pytest.mark.parametrize("case_id", ["attention_self", "subclass_batch_norm_with_activation"])
def test_nothing_is_watched_outside_of_a_forward_pass(case_id: str) -> None:
    case = BY_ID[case_id]
    model = case.model()
    optimizer = AdaFisher(model)
    loss_of(model(case.batch(0)), 0).backward()
    assert no_mode_is_left()
    optimizer.step()
    with torch.no_grad():
        model(case.batch(1))
    optimizer.close()
    model(case.batch(1))
    assert no_mode_is_left()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


class Raising(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        output = super().forward(x)
        if x.shape[0] == 1:
            raise ArithmeticError
        return output


def test_forward_pass_that_raises_leaves_nothing_behind() -> None:
    model = nn.Sequential(Raising(4, 3))
    optimizer = AdaFisher(model)
    with pytest.raises(ArithmeticError):
        model(torch.ones(1, 4))
    assert no_mode_is_left()

    def refuse(_module: nn.Module, _args: object) -> None:
        raise LookupError

    handle = model[0].register_forward_pre_hook(refuse, prepend=True)
    with pytest.raises(LookupError):  # before the watch began
        model(torch.ones(2, 4))
    handle.remove()
    model(torch.randn(5, 4)).sum().backward()
    optimizer.step()
    assert optimizer.coverage().identity_steps == {}


def test_attention_in_evaluation_takes_the_fast_path_and_does_not_count() -> None:
    side = SideBySide(ATTENTION)
    side.train(range(3))
    with torch.no_grad():
        side.model.eval()(ATTENTION.batch(50) * 100)
        side.model.train()
    side.train(range(3, 6))
    side.both(lambda model: model.eval())  # with gradients, so that it is trained as it is
    side.train(range(6, 9))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("case_id", ["attention_three_inputs", "subclass_conv_that_pads"])
def test_activation_checkpointing(case_id: str, reentrant: bool) -> None:
    case = BY_ID[case_id]
    side = SideBySide(case)
    for index in range(4):
        x = case.batch(index).requires_grad_()
        loss_of(checkpoint(side.model, x, use_reentrant=reentrant), index).backward()
        assert no_mode_is_left()
        loss_of(side.reference_model(case.batch(index)), index).backward()
        side.step()
        side.compare()


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copy_of_the_model_is_not_watched(clone: Callable[[nn.Module], nn.Module]) -> None:
    side = SideBySide(ATTENTION)
    side.train(range(2))
    other = clone(side.model)
    loss_of(other(ATTENTION.batch(80) * 100), 80).backward()
    side.train(range(2, 5))


def test_transformer_encoder_layer_is_covered() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True),
        2,
        enable_nested_tensor=False,
    )
    optimizer = AdaFisher(model)
    assert optimizer.coverage().identity == ()
    before = [p.clone() for p in model.parameters()]
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(3, 5, 8)).square().mean().backward()
        optimizer.step()
    assert optimizer.coverage().identity_steps == {}
    assert not any(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_attention_masks_dropout_and_weights_are_torchs_own() -> None:
    """Watching must not change what the layer computes, random draws included."""
    torch.manual_seed(0)
    watched = nn.MultiheadAttention(8, 2, dropout=0.5, add_bias_kv=True, add_zero_attn=True)
    plain = copy.deepcopy(watched)
    with pytest.warns(UserWarning, match="bias_k, bias_v"):
        optimizer = AdaFisher(watched)
    x, memory = torch.randn(4, 2, 8), torch.randn(6, 2, 8)
    mask = torch.zeros(4, 6, dtype=torch.bool).triu(3)
    padding = torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
    results = []
    for model in (watched, plain):
        torch.manual_seed(1)
        output, weights = model(
            x, memory, memory, attn_mask=mask, key_padding_mask=padding, average_attn_weights=False
        )
        output.sum().backward()
        results.append([output, weights, *(p.grad for p in model.parameters())])
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs)
    optimizer.step()
    assert optimizer.coverage().identity_steps == {}
