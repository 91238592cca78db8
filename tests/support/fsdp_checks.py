"""What holds under ``fully_shard``; each check runs on every rank."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from adafisher import AdaFisher, get_optimizer_state_dict, set_optimizer_state_dict
from tests.support.cases import BY_ID, Case
from tests.support.ddp_checks import F32, PLAIN_CNN, RELEASED, STEPS
from tests.support.ranks import checks
from tests.support.shares import ONE_EMPTY, UNEVEN, Shared, gathered

# Odd sizes: shards of unequal length, empty ones, and cuts through a group of channels.
MLP = Case("mlp", lambda: nn.Sequential(nn.Linear(4, 7), nn.GELU(), nn.Linear(7, 1)), (12, 4))
GROUPED = Case(
    "grouped",
    lambda: nn.Sequential(nn.Conv2d(6, 9, 3, groups=3), nn.Tanh(), nn.Conv2d(9, 9, 2, groups=9)),
    (12, 6, 5, 4),
)
TOKENS = BY_ID["tokens_tied_head"]


def whole(model: nn.Module, **options: Any) -> nn.Module:
    fully_shard(model, **options)
    return model


def layerwise(model: nn.Module) -> nn.Module:
    for module in list(model.children()):
        if list(module.parameters()):
            fully_shard(module)
    return whole(model)


def replicated_pairs(model: nn.Module) -> nn.Module:
    shape = (2, dist.get_world_size() // 2)
    return whole(model, mesh=init_device_mesh("cpu", shape, mesh_dim_names=("copies", "shards")))


def second_axis(model: nn.Module) -> nn.Module:
    """FSDP wants even cuts of any axis but the first."""

    def placement(param: nn.Parameter) -> Shard:
        even = param.dim() > 1 and param.shape[1] % dist.get_world_size() == 0
        return Shard(1) if even else Shard(0)

    return whole(model, shard_placement_fn=placement)


def follows_one_process(
    _folder: Path, *, case: Case, prepare: Callable[[nn.Module], nn.Module] = whole, **options: Any
) -> None:
    shared = Shared(case, prepare=prepare, **options)
    shared.train(STEPS)
    assert shared.optimizer.coverage() == shared.whole.coverage()
    for param in shared.bare.parameters():
        assert isinstance(param, DTensor)
        momentum = shared.optimizer.state[param]["exp_avg"]
        assert momentum.placements == param.placements
        assert momentum.to_local().numel() == param.to_local().numel()


def norms(_folder: Path, **options: Any) -> None:
    case = Case("norm", lambda: nn.Sequential(nn.LayerNorm((3, 4)), nn.Linear(4, 3)), (12, 3, 4))
    follows_one_process(_folder, case=case, **options)


def saves(folder: Path) -> None:
    """Save halfway, and leave the end of the run for whoever loads it."""
    shared = Shared(GROUPED, prepare=whole, shares=UNEVEN, update_interval=3)
    shared.train(range(4))
    state = shared.optimizer.state_dict()
    assert all(isinstance(entry["exp_avg"], DTensor) for entry in state["state"].values())
    saved = {"model": shared.bare.state_dict(), "optimizer": state}
    dcp.save(saved, checkpoint_id=folder / "sharded")
    if dist.get_rank() == 0:
        dcp_to_torch_save(folder / "sharded", folder / "whole.pt")
    kept = copy.deepcopy(shared.bare.state_dict())

    shared.train(range(4, 8))
    if dist.get_rank() == 0:
        torch.save(shared.whole_model.state_dict(), folder / "end.pt")
    dist.barrier()
    loads(folder, kept)


def loads(folder: Path, model_state: dict[str, Any]) -> None:
    """The whole file onto a new optimizer, and the shards in place of a used one's."""
    end = torch.load(folder / "end.pt", weights_only=True)
    for used in (False, True):
        shared = Shared(GROUPED, prepare=whole, shares=UNEVEN, update_interval=3)
        if used:
            shared.train(range(1))
            state = shared.optimizer.state_dict()
            dcp.load({"optimizer": state}, checkpoint_id=folder / "sharded")
        else:
            state = torch.load(folder / "whole.pt", weights_only=True)["optimizer"]
        shared.bare.load_state_dict(model_state)
        shared.optimizer.load_state_dict(state)
        for index in range(4, 8):
            shared.backward(index)
            shared.optimizer.step()
            shared.optimizer.zero_grad()
        for name, param in shared.bare.named_parameters():
            assert isinstance(param, DTensor)
            torch.testing.assert_close(param.full_tensor(), end[name], rtol=0, atol=1e-12)


def state_by_name(shared: Shared) -> dict[str, Any]:
    return {
        "model": get_model_state_dict(shared.model),
        "optimizer": get_optimizer_state_dict(shared.optimizer),
    }


def saves_by_name(folder: Path, **options: Any) -> None:
    """Save halfway, load into a new and into a used optimizer, and come to the same end."""
    options |= {"shares": UNEVEN, "update_interval": 3}
    shared = Shared(GROUPED, **options)
    shared.train(range(4))
    dcp.save(state_by_name(shared), checkpoint_id=folder / "named")
    shared.train(range(4, 8))
    end = shared.whole_model.state_dict()
    if dist.get_rank() == 0:
        torch.save(end, folder / "end.pt")
    for used in (False, True):
        other = Shared(GROUPED, **options)
        other.train(range(int(used)))
        state = state_by_name(other)
        dcp.load(state, checkpoint_id=folder / "named")
        set_model_state_dict(other.model, state["model"])
        set_optimizer_state_dict(other.optimizer, state["optimizer"])
        for index in range(4, 8):
            other.backward(index)
            other.optimizer.step()
            other.optimizer.zero_grad()
        for name, param in other.bare.named_parameters():
            torch.testing.assert_close(gathered(param), end[name], rtol=0, atol=1e-12)


def passes_without_gradients(_folder: Path) -> None:
    """The gradient that is waited for is that of the parameter within forward."""
    shared = Shared(MLP, prepare=whole, shares=UNEVEN)
    for index in STEPS:
        x = (100 * shared.batch(90)).requires_grad_()
        torch.autograd.grad(shared.model(x).square().sum(), x)
        assert not any(
            layer.pool.rows for layer in shared.optimizer._curvature.capture.layers.values()
        )
        shared.backward(index)
        shared.step()


def accumulates_without_reducing(_folder: Path) -> None:
    shared = Shared(MLP, prepare=whole, shares=UNEVEN)
    model: Any = shared.model
    for index in STEPS:
        model.set_requires_gradient_sync(False)
        shared.backward(2 * index)
        assert all(param.grad is None for param in shared.bare.parameters())
        model.set_requires_gradient_sync(True)
        shared.backward(2 * index + 1)
        shared.step()


def cleared_by_the_model(_folder: Path) -> None:
    shared = Shared(MLP, prepare=whole, shares=UNEVEN)
    for index in STEPS:
        shared.model(shared.batch(90)[shared.rows]).square().sum().backward()
        shared.bare.zero_grad()
        shared.backward(index)
        shared.step()


def sharded_afterwards(_folder: Path) -> None:
    model = MLP.model()
    optimizer = AdaFisher(model)
    fully_shard(model)
    model(MLP.batch(0)).sum().backward()
    with pytest.raises(RuntimeError, match=r"layer '0' were sharded after .* after fully_shard"):
        optimizer.step()


def tensor_parallel(_folder: Path) -> None:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    model = parallelize_module(nn.Linear(4, 4), mesh, ColwiseParallel())
    with pytest.raises(ValueError, match=r"Invalid placement of weight: tensor parallelism.*\.$"):
        AdaFisher(model)


def half_precision(_folder: Path) -> None:
    """Layers compute in bfloat16, parameters and factors stay in float32."""
    model = whole(MLP.model().float(), mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
    optimizer = AdaFisher(model)
    before = [gathered(param) for param in model.parameters()]
    output = model(MLP.batch(dist.get_rank()).float())
    assert output.dtype is torch.bfloat16
    output.square().mean().backward()
    optimizer.step()
    assert optimizer.coverage().identity_steps == {}
    for param, old in zip(model.parameters(), before, strict=True):
        assert param.dtype is F32
        assert torch.isfinite(gathered(param)).all()
        assert not torch.equal(gathered(param), old)
    for layer in optimizer._curvature.capture.layers.values():
        assert [factor.dtype for factor in layer.averages() or ()] == [F32, F32]


def mesh_of_a_part(_folder: Path) -> None:
    """Two pairs with a model each: a pair pools its own rows."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("model", "shards"))
    model = whole(nn.Linear(1, 2, bias=False), mesh=mesh["shards"])
    optimizer = AdaFisher(model, gammas=(0.0, 0.0))
    model(torch.full((1, 1), 2.0 ** dist.get_rank())).sum().backward()
    optimizer.step()
    averages = optimizer._curvature.capture.layers[""].averages()
    assert averages is not None
    assert float(averages[0]) == ([1 + 4, 16 + 64][dist.get_rank() // 2]) / 2


def only_four(check: Callable[..., None]) -> Callable[..., None]:
    def run(folder: Path, **keywords: Any) -> None:
        if dist.get_world_size() == 4:
            check(folder, **keywords)

    return run


CHECKS = checks(
    ("mlp", follows_one_process, {"case": MLP, "shares": UNEVEN, "weight_decay": 0.1}),
    ("mlp_empty", follows_one_process, {"case": MLP, "shares": ONE_EMPTY}),
    ("mlp_float32", follows_one_process, {"case": MLP, "dtype": F32, "shares": UNEVEN}),
    ("mlp_layerwise", follows_one_process, {"case": MLP, "prepare": layerwise}),
    ("cnn", follows_one_process, {"case": PLAIN_CNN, "update_interval": 3}),
    ("cnn_released", follows_one_process, {"case": PLAIN_CNN, **RELEASED}),
    ("grouped", follows_one_process, {"case": GROUPED, "shares": UNEVEN}),
    ("grouped_second_axis", follows_one_process, {"case": GROUPED, "prepare": second_axis}),
    ("tokens", follows_one_process, {"case": TOKENS, "shares": UNEVEN}),
    ("tokens_float32", follows_one_process, {"case": TOKENS, "dtype": F32}),
    ("tokens_second_axis", follows_one_process, {"case": TOKENS, "prepare": second_axis}),
    ("tied_linear", follows_one_process, {"case": BY_ID["tied_linear"]}),
    ("tied_convolutions", follows_one_process, {"case": BY_ID["tied_convolutions"]}),
    ("norms", norms, {}),
    ("norms_released", norms, RELEASED),
    ("pairs", only_four(follows_one_process), {"case": MLP, "prepare": replicated_pairs}),
    ("mesh_of_a_part", only_four(mesh_of_a_part), {}),
    ("half_precision", half_precision, {}),
    ("saves", saves, {}),
    ("saves_by_name", saves_by_name, {"prepare": whole}),
    ("saves_by_name_replicated", saves_by_name, {"wrap": DistributedDataParallel}),
    ("passes_without_gradients", passes_without_gradients, {}),
    ("accumulates_without_reducing", accumulates_without_reducing, {}),
    ("cleared_by_the_model", cleared_by_the_model, {}),
    ("sharded_afterwards", sharded_afterwards, {}),
    ("tensor_parallel", tensor_parallel, {}),
)
