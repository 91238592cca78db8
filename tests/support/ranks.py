"""Runs checks in several gloo processes that are started once, and says how each ended."""

from __future__ import annotations

import json
import os
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

Check = Callable[[Path], None]
PASSED = "passed"


def run(world: int, module: str, folder: Path, device: str = "cpu") -> dict[str, str]:
    """Run every check of a module's ``CHECKS`` on ``world`` ranks.

    Args:
        world: Number of processes.
        module: Module with ``CHECKS``, a function of a shared folder by name. A check may have an
            attribute ``world``, the only number of ranks that it runs on.
        folder: Empty folder.
        device: ``cpu`` (gloo) or ``cuda`` (nccl, a device for each rank).

    Returns:
        ``PASSED`` or the first failing rank's traceback, by check. After a failure none runs: the
        other ranks may be waiting in a collective.
    """
    try:
        mp.spawn(_work, (world, module, str(folder), device), world)
    except Exception as error:
        (folder / "launch").write_text(str(error), "utf-8")
    launch = folder / "launch"
    rest = f"not reached: {launch.read_text('utf-8') if launch.exists() else 'skipped'}"
    found: dict[str, str] = {}
    for name in import_module(module).CHECKS:
        ends = [_read(folder / str(rank)).get(name, rest) for rank in range(world)]
        failed = [end for end in ends if end != PASSED]
        found[name] = next((f for f in failed if f != rest), rest) if failed else PASSED
    return found


def checks(*cases: tuple[str, Callable[..., None], dict[str, Any]]) -> Mapping[str, Check]:
    """``CHECKS`` from functions of keywords."""

    def bind(function: Callable[..., None], keywords: dict[str, Any]) -> Check:
        return lambda folder: function(folder, **keywords)

    return {name: bind(function, keywords) for name, function, keywords in cases}


def _work(rank: int, world: int, module: str, folder: str, device: str) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if device == "cuda":
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=60),
    )
    ends: dict[str, str] = {}
    for name, check in import_module(module).CHECKS.items():
        shared = Path(folder, name)
        shared.mkdir(exist_ok=True)
        try:
            check(shared)
            ends[name] = PASSED
        except BaseException:
            ends[name] = f"rank {rank} of {world}: {traceback.format_exc()}"
            raise
        finally:
            Path(folder, str(rank)).write_text(json.dumps(ends), "utf-8")
        dist.barrier()
    time.sleep(0.1)  # a thread of gloo that still puts a tensor down would abort the process
    dist.destroy_process_group()


def _read(path: Path) -> dict[str, str]:
    ends: dict[str, str] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return ends
