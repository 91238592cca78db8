"""What needs accelerators: nccl, and the SyncBatchNorm that torch has for them alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tests.support.ddp_checks import CNN, MLP, PLAIN_CNN, STEPS
from tests.support.fsdp_checks import TOKENS, whole
from tests.support.ranks import checks
from tests.support.shares import ONE_EMPTY, UNEVEN, Shared

on_gpu = partial(Shared, device="cuda")


def ddp(_folder: Path, **options: Any) -> None:
    on_gpu(wrap=DistributedDataParallel, **options).train(STEPS)


def sharded(_folder: Path, **options: Any) -> None:
    on_gpu(prepare=whole, **options).train(STEPS)


CHECKS = checks(
    ("mlp", ddp, {"case": MLP, "shares": UNEVEN}),
    ("mlp_empty", ddp, {"case": MLP, "shares": ONE_EMPTY}),
    ("cnn", ddp, {"case": PLAIN_CNN}),
    ("sync_batch_norm", ddp, {"case": CNN, "prepare": nn.SyncBatchNorm.convert_sync_batchnorm}),
    ("sharded_mlp", sharded, {"case": MLP, "shares": UNEVEN}),
    ("sharded_tokens", sharded, {"case": TOKENS}),
)
