"""Hydra's jobs as tasks of Ray: of one that lives as long as the sweep does, or of a cluster."""

import contextlib
import logging
import math
import os
import re
import signal
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from experiments.errors import UserError, one_line
from experiments.system.output import say

LOCAL = "local"
# Nothing is reported to anyone; and a run that takes much memory is no reason to kill the process
# that watches it.
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
_OBJECT_STORE_BYTES = 80 * 2**20  # what the jobs return is small; Ray's least is 75 MiB
_OWN: dict[str, Any] = {
    "num_gpus": 0,
    "include_dashboard": False,
    "object_store_memory": _OBJECT_STORE_BYTES,
    "_node_ip_address": "127.0.0.1",
}
_CLUSTER = re.compile(r"auto|[^/\s]+:\d+")
_PATIENCE_SECONDS = 10  # for the head of a cluster to answer
_RETRIES = 2  # of a job whose process or node died, at once and elsewhere; what is done stays so


def check(address: str, *, cpus: float, gpus: float) -> None:
    """Refuse a cluster that cannot be joined, and say of one that has no place for a job yet.

    Args:
        address: ``local``, ``auto`` or that of the cluster's head.
        cpus: Cores that a job takes of a node of the cluster.
        gpus: CUDA devices likewise.

    Raises:
        UserError: If there is no such cluster, or a value is none that it can have.
    """
    for name, value, least in (("cpus", cpus, "> 0"), ("gpus", gpus, ">= 0")):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not (0 <= value < math.inf) or (name == "cpus" and value == 0):
            raise UserError(f"Invalid launcher.{name}: {value!r}. Must be a number {least}.")
    if address == LOCAL:
        return
    if not _CLUSTER.fullmatch(str(address)):
        raise UserError(f"Invalid launcher.address: {address!r}. Must be local, auto or HOST:PORT.")
    with _connected(address, jobs=1) as ray:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        say(
            f"warning: no node of the Ray cluster has {cpus:g} CPUs and {gpus:g} GPUs "
            "(launcher.cpus, launcher.gpus): the jobs wait for one",
            error=True,
        )


@contextlib.contextmanager
def _connected(address: str, *, jobs: int) -> Iterator[Any]:
    """Start a Ray of our own, with room for so many jobs, or join a cluster; yields the module."""
    os.environ.update({key: os.environ.get(key, value) for key, value in _SETTINGS.items()})
    import ray

    handler = signal.getsignal(signal.SIGTERM)
    try:
        if ":" in address:  # Ray itself looks for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=_PATIENCE_SECONDS).close()
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **({"num_cpus": jobs, **_OWN} if address == LOCAL else {}),
        )
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        if address == LOCAL:
            raise
        raise UserError(
            f"Invalid launcher.address: {address!r}. Must be a Ray cluster that runs, with this "
            f"machine as a node: {one_line(error)}"
        ) from error
    try:
        signal.signal(signal.SIGTERM, handler)  # Ray's own ends the process at once
        yield ray
    finally:
        ray.shutdown()


class RayLauncher(Launcher):
    """Runs jobs side by side on Ray.

    Args:
        n_jobs: How many at once.
        address: See ``check``.
        cpus: See ``check``.
        gpus: See ``check``.
    """

    def __init__(self, n_jobs: int, address: str, cpus: float, gpus: float) -> None:
        self.n_jobs, self.address = n_jobs, address
        # Of one of our own each takes a place; the sweep divides the machine.
        self.resources = (
            {"num_cpus": cpus, "num_gpus": gpus} if address != LOCAL else {"num_cpus": 1}
        )
        self.context: HydraContext | None = None
        self.function: TaskFunction | None = None
        self.config: DictConfig | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what the jobs need; Hydra calls it."""
        self.context, self.function, self.config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run a batch of jobs to its end.

        Args:
            job_overrides: The overrides of each job.
            initial_job_idx: Number of the first.

        Returns:
            One result a job, in order; the status of a job that died is unknown.
        """
        assert self.config is not None
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        with _connected(self.address, jobs=self.n_jobs) as ray:
            options = {"max_retries": _RETRIES, "scheduling_strategy": "SPREAD"}
            task = ray.remote(**self.resources, **options)(_execute)
            shared = ray.put((self.context, self.config, self.function, Singleton.get_state()))
            waiting = deque(range(len(job_overrides)))
            running: dict[Any, int] = {}
            results: dict[int, JobReturn] = {}
            while waiting or running:
                while waiting and len(running) < self.n_jobs:
                    at = waiting.popleft()
                    overrides = list(job_overrides[at])
                    running[task.remote(shared, overrides, initial_job_idx + at)] = at
                # By the second: signals are handled in between.
                ended, _ = ray.wait(list(running), timeout=1)
                for reference in ended:
                    results[running.pop(reference)] = _result(ray, reference)
            return [results[at] for at in range(len(job_overrides))]


def _result(ray: Any, reference: Any) -> JobReturn:
    try:
        result: JobReturn = ray.get(reference)
    except ray.exceptions.RayError as error:
        result = JobReturn(status=JobStatus.UNKNOWN)
        result.return_value = error
    return result


def _execute(shared: Any, overrides: list[str], number: int) -> JobReturn:
    context, config, function, state = shared
    setup_globals()
    Singleton.set_state(state)
    own = context.config_loader.load_sweep_config(config, overrides)
    with open_dict(own):
        own.hydra.job.id = f"{own.hydra.job.name}_{number}"
        own.hydra.job.num = number
    HydraConfig.instance().set_config(own)
    return run_job(
        hydra_context=context,
        task_function=function,
        config=own,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
