"""Several processes give the trajectory of one; the checks are in ``*_checks.py``."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn

from adafisher import AdaFisher, get_optimizer_state_dict, set_optimizer_state_dict
from tests.support import ddp_checks, fsdp_checks, gpu_checks, ranks
from tests.support.shares import loss_of


class Ends(NamedTuple):
    """Where processes ran, and how each check ended."""

    folder: Path
    ends: dict[str, str]


def fixture_of(module: str, world: int, device: str = "cpu") -> Any:
    @pytest.fixture(scope="module")
    def run(loopback: None, tmp_path_factory: pytest.TempPathFactory) -> Ends:
        if device == "cuda" and torch.cuda.device_count() < world:
            pytest.skip(f"needs {world} accelerators")
        folder = tmp_path_factory.mktemp(f"world_{world}")
        return Ends(folder, ranks.run(world, module, folder, device))

    return run


ddp_two = fixture_of(ddp_checks.__name__, 2)
ddp_four = fixture_of(ddp_checks.__name__, 4)
fsdp_two = fixture_of(fsdp_checks.__name__, 2)
fsdp_four = fixture_of(fsdp_checks.__name__, 4)
gpu_two = fixture_of(gpu_checks.__name__, 2, "cuda")


@pytest.mark.parametrize("check", ddp_checks.CHECKS)
def test_ddp_on_two_ranks(check: str, ddp_two: Ends) -> None:
    assert ddp_two.ends[check] == ranks.PASSED, ddp_two.ends[check]


@pytest.mark.slow
@pytest.mark.parametrize("check", ddp_checks.CHECKS)
def test_ddp_on_four_ranks(check: str, ddp_four: Ends) -> None:
    assert ddp_four.ends[check] == ranks.PASSED, ddp_four.ends[check]


@pytest.mark.parametrize("check", fsdp_checks.CHECKS)
def test_fully_shard_on_two_ranks(check: str, fsdp_two: Ends) -> None:
    assert fsdp_two.ends[check] == ranks.PASSED, fsdp_two.ends[check]


@pytest.mark.slow
@pytest.mark.parametrize("check", fsdp_checks.CHECKS)
def test_fully_shard_on_four_ranks(check: str, fsdp_four: Ends) -> None:
    assert fsdp_four.ends[check] == ranks.PASSED, fsdp_four.ends[check]


@pytest.mark.gpu
@pytest.mark.parametrize("check", gpu_checks.CHECKS)
def test_nccl_on_two_ranks(check: str, gpu_two: Ends) -> None:
    assert gpu_two.ends[check] == ranks.PASSED, gpu_two.ends[check]


def test_saved_on_two_ranks_loads_on_one(fsdp_two: Ends) -> None:
    folder = fsdp_two.folder / "saves"
    saved = torch.load(folder / "whole.pt", weights_only=True)
    end = torch.load(folder / "end.pt", weights_only=True)
    case = fsdp_checks.GROUPED
    model = case.model(seed=1)
    model.load_state_dict(saved["model"])
    optimizer = AdaFisher(model)
    optimizer.load_state_dict(saved["optimizer"])
    for index in range(4, 8):
        loss_of(model(case.batch(index)), index).backward()
        optimizer.step()
        optimizer.zero_grad()
    for name, param in model.named_parameters():
        torch.testing.assert_close(param.detach(), end[name], rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninitialized")
@pytest.mark.parametrize("check", ["saves_by_name", "saves_by_name_replicated"])
def test_saved_by_name_on_two_ranks_loads_on_one(check: str, fsdp_two: Ends) -> None:
    folder = fsdp_two.folder / check
    case = fsdp_checks.GROUPED
    model = case.model(seed=1)
    optimizer = AdaFisher(model)
    state = {"model": model.state_dict(), "optimizer": get_optimizer_state_dict(optimizer)}
    dcp.load(state, checkpoint_id=folder / "named", no_dist=True)
    model.load_state_dict(state["model"])
    set_optimizer_state_dict(optimizer, state["optimizer"])
    for index in range(4, 8):
        loss_of(model(case.batch(index)), index).backward()
        optimizer.step()
        optimizer.zero_grad()
    end = torch.load(folder / "end.pt", weights_only=True)
    for name, param in model.named_parameters():
        torch.testing.assert_close(param.detach(), end[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("group", [True, "nccl", 2], ids=repr)
def test_what_is_no_group_is_refused(group: object) -> None:
    with pytest.raises(TypeError, match=r"^Invalid process_group: .* Must be a torch.distributed"):
        AdaFisher(nn.Linear(2, 2), process_group=group)  # type: ignore[arg-type]
