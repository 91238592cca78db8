"""Hydra's jobs as tasks of a Ray that lives on this machine as long as the sweep does."""

import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

# Nothing is reported to anyone; and a run that takes much memory is no reason to kill the process
# that watches it.
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
_OBJECT_STORE_BYTES = 80 * 2**20  # what the jobs return is small; Ray's least is 75 MiB


class RayLauncher(Launcher):
    """Runs jobs side by side on Ray.

    Args:
        n_jobs: How many at once.
    """

    def __init__(self, n_jobs: int) -> None:
        self.n_jobs = n_jobs
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
        os.environ.update({key: os.environ.get(key, value) for key, value in _SETTINGS.items()})
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        import ray

        handler = signal.getsignal(signal.SIGTERM)
        ray.init(
            address="local",
            num_cpus=self.n_jobs,
            num_gpus=0,
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1",
        )
        try:
            signal.signal(signal.SIGTERM, handler)  # Ray's own ends the process at once
            task = ray.remote(num_cpus=1, max_retries=0)(_execute)
            shared = ray.put((self.context, self.config, self.function, Singleton.get_state()))
            references = [
                task.remote(shared, list(overrides), initial_job_idx + index)
                for index, overrides in enumerate(job_overrides)
            ]
            waiting = references
            while waiting:  # by the second: signals are handled in between
                _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=1)
            return [_result(ray, reference) for reference in references]
        finally:
            ray.shutdown()


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
