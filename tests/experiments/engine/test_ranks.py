"""What several processes agree on, as far as one process can show it; see `test_torchrun`."""

import pytest
import torch
from torch import distributed as dist
from torch import nn

from experiments.engine import synced_norm
from experiments.engine.ranks import Ranks, join
from experiments.errors import UserError
from experiments.system import ranks


@pytest.mark.parametrize(("rows", "size"), [(12, 2), (7, 2), (7, 3), (2, 4), (0, 2)])
def test_shares_are_the_batch_in_order(rows, size):
    batch = torch.arange(rows)
    shares = [Ranks(rank, size).share(batch, batch) for rank in range(size)]
    for position in range(2):
        assert torch.equal(torch.cat([share[position] for share in shares]), batch)
    lengths = [len(share[0]) for share in shares]
    assert max(lengths) - min(lengths) <= 1


def test_one_process_agrees_with_itself():
    world = Ranks()
    assert world.leads
    assert world.sum([1.5, 2.0]) == world.mean([1.5, 2.0]) == [1.5, 2.0]
    assert (world.any(True), world.any(False)) == (True, False)
    assert world.gather("x") == [world.tell("x")] == ["x"]
    assert world.together(lambda: 3) == 3


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (1, 0, 1)),
        ({"WORLD_SIZE": "8"}, (1, 0, 1)),  # some schedulers set it by themselves
        ({"RANK": "0", "WORLD_SIZE": "1"}, (1, 0, 1)),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}, (8, 5, 4)),
    ],
    ids=["none", "size-only", "one", "eight"],
)
def test_the_launcher_tells_which_process_it_is(monkeypatch, environment, expected):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (ranks.count(), ranks.rank(), ranks.local_count()) == expected
    assert ranks.local_rank() == (1 if expected[0] > 1 else 0)


def test_a_launch_that_does_not_say_where_to_meet_is_refused(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with (
        pytest.raises(UserError, match=r"MASTER_ADDR is not\..* by torchrun"),
        join(torch.device("cpu")),
    ):
        pass


@pytest.fixture
def group(tmp_path):
    """A group of one process, in which a sum over the processes is the number itself."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("loopback", "group")
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.BatchNorm2d(3),
        lambda: nn.BatchNorm2d(3, affine=False),
        lambda: nn.BatchNorm2d(3, momentum=None),
        lambda: nn.BatchNorm1d(3, eps=0.1, momentum=0.4),
    ],
    ids=["plain", "no-affine", "cumulative", "1d"],
)
def test_batch_norm_over_one_process_is_torchs(make):
    generator = torch.Generator().manual_seed(0)
    plain, synced = (nn.Sequential(make().double()) for _ in range(2))
    synced_norm.synchronise(synced, torch.device("cpu"))
    spatial = (4, 2) if isinstance(plain[0], nn.BatchNorm2d) else ()
    for _ in range(3):
        x = torch.randn(5, 3, *spatial, generator=generator, dtype=torch.float64)
        weights = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        grads = []
        for model in (plain, synced):
            model.zero_grad()
            inputs = x.clone().requires_grad_()
            (model(inputs) * weights).sum().backward()
            grads.append([inputs.grad, *(param.grad for param in model.parameters())])
        for ours, theirs in zip(*grads, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    assert synced[0].training
    for ours, theirs in zip(synced.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    plain.eval(), synced.eval()
    torch.testing.assert_close(synced(x), plain(x), rtol=1e-12, atol=0)
