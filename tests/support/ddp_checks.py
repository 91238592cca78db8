"""What holds under DistributedDataParallel; each check runs on every rank."""

from __future__ import annotations

import copy
import weakref
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel

from adafisher import AdaFisher
from tests.support.cases import BY_ID, Case
from tests.support.ranks import checks
from tests.support.shares import ONE_EMPTY, UNEVEN, Shared, loss_of
from tests.support.sync_norm import sync_forward

STEPS = range(8)
F32 = torch.float32
MLP = BY_ID["mlp_inplace_relu"]
RELEASED: dict[str, Any] = {
    "gammas": (0.08, 0.992),
    "normalize": "before",
    "factor_init": "ones",
    "update_interval": 3,
    "minmax_eps": 1e-6,
    "norm_layers": "two_vector",
    "patch_mean": True,
    "constant_factor": "zeros",
}
CNN = Case(
    "cnn",
    lambda: nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 6, 3, stride=2, groups=3),
        nn.Flatten(),
        nn.Linear(24, 3),
    ),
    (12, 4, 6, 5),
)
PLAIN_CNN = Case(
    "plain_cnn",
    lambda: nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=1, bias=False),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 6, 3, stride=2, groups=3),
        nn.Flatten(),
        nn.Linear(24, 3),
    ),
    (12, 4, 6, 5),
)


class Optional(nn.Module):
    """A layer that the caller may leave out."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.extra, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.never = nn.Linear(2, 2)

    def forward(self, x: Tensor, extra: bool) -> Tensor:
        x = self.first(x).tanh()
        return self.last(self.extra(x).tanh() if extra else x)


def follows_one_process(_folder: Path, *, case: Case, **options: Any) -> None:
    shared = Shared(case, wrap=DistributedDataParallel, **options)
    shared.train(STEPS)
    assert shared.optimizer.coverage() == shared.whole.coverage()


def scaled_beside_an_empty_share(_folder: Path) -> None:
    """A rank without rows has to know the scale as well: those of all ranks come to it."""
    shared = Shared(
        MLP,
        wrap=DistributedDataParallel,
        dtype=F32,
        shares=ONE_EMPTY,
        factor_init="ones",  # or Min-Max takes a constant scale out
        gammas=(0.9, 0.5),
    )
    scaler = GradScaler("cpu", init_scale=2.0**10)
    for index in STEPS:
        loss_of(shared.whole_model(shared.batch(index)), index).backward()
        output = shared.model(shared.batch(index)[shared.rows])
        scaler.scale(shared.world * loss_of(output, index, shared.rows)).backward()
        scaler.step(shared.optimizer)
        scaler.update()
        shared.whole.step()
        for optimizer in (shared.whole, shared.optimizer):
            optimizer.zero_grad()
        shared.count += 1
        shared.compare()


def sync_batch_norm(_folder: Path, **options: Any) -> None:
    ours = mock.patch.object(nn.SyncBatchNorm, "forward", sync_forward)
    # DDP refuses the layer on the CPU.
    allowed = mock.patch.object(
        DistributedDataParallel, "_passing_sync_batchnorm_handle", return_value=None
    )
    with ours, allowed:
        follows_one_process(
            _folder, case=CNN, prepare=nn.SyncBatchNorm.convert_sync_batchnorm, **options
        )


def no_sync(_folder: Path) -> None:
    shared = Shared(MLP, wrap=DistributedDataParallel, shares=UNEVEN, update_interval=2)
    for index in STEPS:
        assert isinstance(shared.model, DistributedDataParallel)
        with shared.model.no_sync():
            shared.backward(2 * index)
        shared.backward(2 * index + 1)
        shared.step()


def skipped_layers(_folder: Path) -> None:
    """Rank 0 takes the layer every third step, rank 1 from the fourth, the others never."""
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    whole = Optional().double()
    model = copy.deepcopy(whole)
    optimizer = AdaFisher(model)
    reference = AdaFisher(whole, process_group=False)
    wrapped = DistributedDataParallel(model, find_unused_parameters=True)
    for index in STEPS:
        takes = [index % 3 == 2, index >= 4, False, False][:world]
        for k in range(world):
            x = torch.randn(3, 4, generator=torch.Generator().manual_seed(100 * index + k)).double()
            (loss_of(whole(x, takes[k]), k, samples=3) / world).backward()
            if k == rank:
                loss_of(wrapped(x, takes[k]), k, samples=3).backward()
        for each in (optimizer, reference):
            each.step()
            each.zero_grad()
        for ours, theirs in zip(model.parameters(), whole.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    assert "never" in optimizer._curvature.capture.layers
    assert "never" not in optimizer._curvature.synchronizer._kinds


def lengths_differ(_folder: Path) -> None:
    """The released layer norm has one entry a token, and ranks pad to their own longest text."""
    rank, world = dist.get_rank(), dist.get_world_size()
    case = Case("norm", lambda: nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3)), ())
    model, whole = case.model(), case.model()
    optimizer = AdaFisher(model, **RELEASED | {"update_interval": 1})
    reference = AdaFisher(whole, process_group=False, **RELEASED | {"update_interval": 1})
    wrapped = DistributedDataParallel(model)
    for index in STEPS:
        for k in range(world):
            tokens = 2 + (index + 3 * k) % 5
            generator = torch.Generator().manual_seed(100 * index + k)
            x = torch.randn(3, tokens, 4, generator=generator).double()
            (loss_of(whole(x), k, samples=3) / world).backward()
            if k == rank:
                loss_of(wrapped(x), k, samples=3).backward()
        for each in (optimizer, reference):
            each.step()
            each.zero_grad()
        for ours, theirs in zip(model.parameters(), whole.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def not_finite_on_one_rank(_folder: Path) -> None:
    """Gradients stay finite: 1e160 * 1e-160, but the square of the input does not."""
    shared = Shared(MLP, wrap=DistributedDataParallel)
    shared.train(range(2))
    layer = shared.optimizer._curvature.capture.layers["0"]
    before = [t.clone() for t in layer.averages() or ()]
    last = dist.get_rank() == dist.get_world_size() - 1
    x = torch.ones(3, 4, dtype=torch.float64) * (1e160 if last else 1.0)
    (shared.model(x).sum() * 1e-160).backward()
    shared.optimizer.step()
    assert shared.optimizer.coverage().dropped == {"0": 1, "2": 1}
    assert all(map(torch.equal, layer.averages() or (), before))
    for param in shared.bare.parameters():
        assert torch.isfinite(param).all()
        everyone = [torch.empty_like(param) for _ in range(dist.get_world_size())]
        dist.all_gather(everyone, param.detach())
        assert all(torch.equal(other, param) for other in everyone)


def one_all_reduce_a_refresh(_folder: Path) -> None:
    shared = Shared(PLAIN_CNN, wrap=DistributedDataParallel, update_interval=3)
    shared.train(range(1))
    with (
        mock.patch.object(dist, "all_reduce", wraps=dist.all_reduce) as reduce,
        mock.patch.object(dist, "all_gather_object", side_effect=AssertionError),
    ):
        counts = []
        for index in range(1, 7):
            reduce.reset_mock()
            shared.train(range(index, index + 1))
            counts.append(reduce.call_count)
    assert counts == [0, 0, 1, 0, 0, 1]


def the_last_all_reduce_is_kept(_folder: Path) -> None:
    """A process may end after any step: gloo's thread must never be the last to hold a tensor."""

    class Handle:
        def __init__(self, work: Any) -> None:
            self.wait = work.wait

    made: list[weakref.ref[Handle]] = []

    def reduce(tensor: Tensor, group: Any, async_op: bool) -> Handle:
        handle = Handle(all_reduce(tensor, group=group, async_op=async_op))
        made.append(weakref.ref(handle))
        return handle

    shared, all_reduce = Shared(PLAIN_CNN, wrap=DistributedDataParallel), dist.all_reduce
    with mock.patch.object(dist, "all_reduce", reduce):
        shared.train(range(3))
    assert [handle() is not None for handle in made] == [False] * (len(made) - 1) + [True]


def identity_does_not_wait(_folder: Path) -> None:
    """Free parameters are stepped between the launch of the all-reduce and the wait for it."""
    shared = Shared(BY_ID["tokens_tied_head"], wrap=DistributedDataParallel)
    synchronizer = shared.optimizer._curvature.synchronizer
    calls = mock.Mock()
    calls.start.side_effect, calls.finish.side_effect = synchronizer.start, synchronizer.finish
    of_updates = shared.optimizer._updates

    def updates(parameters: Any) -> Any:
        for parameter in parameters:
            calls.update(parameter[1])
            yield from of_updates([parameter])

    with (
        mock.patch.object(synchronizer, "start", calls.start),
        mock.patch.object(synchronizer, "finish", calls.finish),
        mock.patch.object(shared.optimizer, "_updates", updates),
    ):
        shared.train(range(1))
    names = [call.args[0] if call[0] == "update" else call[0] for call in calls.mock_calls]
    assert names[:3] == ["start", "positions", "finish"]
    assert "positions" not in names[3:]


def group_is_a_choice(_folder: Path) -> None:
    """Alone, in pairs, and all together give what each of them saw."""
    rank, world = dist.get_rank(), dist.get_world_size()
    pairs = [dist.new_group([k, k + 1]) for k in range(0, world, 2)]
    found = []
    groups: tuple[Any, ...] = (False, pairs[rank // 2], None)
    for group in groups:
        model = nn.Linear(1, 2, bias=False)
        optimizer = AdaFisher(model, gammas=(0.0, 0.0), process_group=group)
        model(torch.full((1, 1), 2.0**rank)).sum().backward()
        optimizer.step()
        averages = optimizer._curvature.capture.layers[""].averages()
        assert averages is not None
        found.append(float(averages[0]))
    squares = [4.0**k for k in range(world)]
    first = rank // 2 * 2
    assert found == [squares[rank], sum(squares[first : first + 2]) / 2, sum(squares) / world]
    assert copy.deepcopy(optimizer._curvature.synchronizer)._group() is dist.group.WORLD


def built_before_the_group(_folder: Path) -> None:
    with mock.patch.object(dist, "is_initialized", return_value=False):
        shared = Shared(MLP)
    shared.model = DistributedDataParallel(shared.bare)
    shared.train(STEPS)


class OldSharding(FullyShardedDataParallel):
    """FSDP1 as far as it comes without an accelerator."""

    def __init__(self, module: nn.Module) -> None:
        nn.Module.__init__(self)
        self._fsdp_wrapped_module = module


def wrapped_models(_folder: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^Invalid model: DistributedDataParallel\..*model\.module"
    ):
        AdaFisher(DistributedDataParallel(MLP.model()))
    for model in (OldSharding(MLP.model()), nn.Sequential(OldSharding(MLP.model()))):
        with pytest.raises(ValueError, match=r"^Invalid model: FullyShardedData.*fully_shard ins"):
            AdaFisher(model)


CHECKS = checks(
    ("mlp", follows_one_process, {"case": MLP}),
    ("mlp_float32", follows_one_process, {"case": MLP, "dtype": F32}),
    ("mlp_uneven", follows_one_process, {"case": MLP, "shares": UNEVEN}),
    ("mlp_empty", follows_one_process, {"case": MLP, "shares": ONE_EMPTY}),
    ("scaled_beside_an_empty_share", scaled_beside_an_empty_share, {}),
    ("cnn", follows_one_process, {"case": PLAIN_CNN, "shares": UNEVEN}),
    ("cnn_float32", follows_one_process, {"case": PLAIN_CNN, "dtype": F32, "shares": UNEVEN}),
    ("cnn_released", follows_one_process, {"case": PLAIN_CNN, "shares": UNEVEN, **RELEASED}),
    ("tokens", follows_one_process, {"case": BY_ID["tokens_tied_head"], "shares": UNEVEN}),
    ("tokens_float32", follows_one_process, {"case": BY_ID["tokens_tied_head"], "dtype": F32}),
    ("tokens_released", follows_one_process, {"case": BY_ID["tokens_tied_head"], **RELEASED}),
    ("tied_linear", follows_one_process, {"case": BY_ID["tied_linear"], "weight_decay": 0.1}),
    ("sync_batch_norm", sync_batch_norm, {"shares": UNEVEN}),
    ("sync_batch_norm_released", sync_batch_norm, RELEASED),
    ("no_sync", no_sync, {}),
    ("skipped_layers", skipped_layers, {}),
    ("lengths_differ", lengths_differ, {}),
    ("not_finite_on_one_rank", not_finite_on_one_rank, {}),
    ("one_all_reduce_a_refresh", one_all_reduce_a_refresh, {}),
    ("the_last_all_reduce_is_kept", the_last_all_reduce_is_kept, {}),
    ("identity_does_not_wait", identity_does_not_wait, {}),
    ("group_is_a_choice", group_is_a_choice, {}),
    ("built_before_the_group", built_before_the_group, {}),
    ("wrapped_models", wrapped_models, {}),
)
