"""Which launcher of Hydra runs the jobs of a sweep, and how it is handed jobs that are composed.

A launcher composes each job anew, in the process that runs it. Here the configs lie in the sweep's
folder, as they were checked: a launcher is told their numbers, and "composes" a job to these.
"""

import importlib.util
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from hydra._internal.callbacks import Callbacks
from hydra.core.config_loader import ConfigLoader
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from experiments.config import commandline
from experiments.config.compositions import compose_job
from experiments.config.run_config import RunConfig
from experiments.config.suite_keys import KEYS
from experiments.errors import UserError
from experiments.sweep import ray_launcher, submitit_launcher
from experiments.sweep.sweep import Jobs
from experiments.system.cores import side_by_side

# As conf/hydra/launcher/ray.yaml has it: Hydra instantiates plugins of this package alone.
_RAY = "hydra_plugins.ray_launcher.RayLauncher"
_NUMBERS = "numbers"


@dataclass(frozen=True)
class LauncherTraits:
    """How a launcher runs jobs.

    Attributes:
        parallel: How many share this machine; None: a scheduler gives each job its own part.
        shows_jobs: Whether what they print comes to this terminal.
        here: Whether they run in the process that leads the sweep.
        cores_each: Of a run, where it has a part of a machine and no scheduler holds it to that.
    """

    parallel: int | None
    shows_jobs: bool
    here: bool = False
    cores_each: int | None = None


def register() -> None:
    """Make known to Hydra the class that ``hydra/launcher=ray`` names, and ours for submitit's."""
    known = Plugins.instance().class_name_to_class
    known[_RAY] = ray_launcher.RayLauncher
    known.update(submitit_launcher.PLACES)


def compose(overrides: list[str]) -> DictConfig:
    """Have Hydra compose the first job of a sweep, with the launcher that is asked for."""
    register()
    (job, *_) = commandline.jobs(overrides)
    return compose_job(job)


def traits(config: DictConfig) -> LauncherTraits:
    """Tell how the launcher of a config, see ``compose``, runs the jobs.

    Raises:
        UserError: If it cannot run here, or as many jobs as asked for.
    """
    launcher, jobs = config.hydra.launcher, config.jobs
    if "array_parallelism" in launcher:
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise UserError("launcher=submitit_slurm: there is no sbatch or srun. Use local.")
        return LauncherTraits(parallel=None, shows_jobs=False)
    if "submitit_folder" in launcher:
        return LauncherTraits(parallel=jobs, shows_jobs=False)
    if launcher._target_ == _RAY:
        if importlib.util.find_spec("ray") is None:
            raise UserError("launcher=ray: the package ray is not installed. Use joblib.")
        ray_launcher.check(launcher.address, cpus=launcher.cpus, gpus=launcher.gpus)
        if launcher.address != ray_launcher.LOCAL:
            each = max(1, int(launcher.cpus))
            return LauncherTraits(parallel=None, shows_jobs=False, cores_each=each)
    if "n_jobs" in launcher:
        return LauncherTraits(side_by_side(launcher.n_jobs), shows_jobs=launcher._target_ != _RAY)
    if jobs > 1:
        raise UserError(
            f"Invalid jobs: {jobs}. launcher=local runs one after another; launcher=joblib and "
            "others run several."
        )
    return LauncherTraits(parallel=1, shows_jobs=True, here=True)


def launch(config: DictConfig, run: Callable[[Sequence[int]], None], jobs: Jobs) -> Jobs:
    """Run jobs by the launcher of a config, to the end of the last.

    Args:
        config: See ``compose``.
        run: Is called with each of ``jobs``, in whatever process; it must be one that can be
            pickled.
        jobs: One at least.

    Returns:
        The jobs that died.
    """
    plugins = Plugins.instance()
    callbacks = Callbacks(config)
    callbacks.on_multirun_start(config=config, config_name=None)
    context = HydraContext(cast("ConfigLoader", _Numbers()), callbacks)
    called = _Called(run)
    launcher = plugins.instantiate_launcher(
        hydra_context=context, task_function=called, config=config
    )
    # What a run is made of is not for the launcher, which copies it for each job.
    rest = OmegaConf.masked_copy(config, [str(key) for key in config if key not in KEYS])
    launcher.setup(hydra_context=context, task_function=called, config=rest)
    texts = ["+".join(map(str, numbers)) for numbers in jobs]
    results = launcher.launch([[f"{_NUMBERS}={text}"] for text in texts], 0)
    callbacks.on_multirun_end(config=config, config_name=None)
    ends = zip(jobs, results, strict=True)
    return [numbers for numbers, result in ends if result.status == JobStatus.UNKNOWN]


class _Numbers:
    """Stands for Hydra's loader of configs: the config of a job is the numbers of its runs."""

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: Sequence[str]
    ) -> DictConfig:
        config = master_config.copy()
        with open_dict(config):
            config[_NUMBERS] = [int(n) for n in sweep_overrides[0].partition("=")[2].split("+")]
            config.hydra.overrides.task = list(sweep_overrides)
        return config


@dataclass(frozen=True)
class _Called:
    """What a launcher calls: the job, by the numbers of its runs."""

    run: Callable[[Sequence[int]], None]

    def __call__(self, config: Any) -> None:
        self.run(list(config[_NUMBERS]))


def check_single(config: RunConfig) -> None:
    """Refuse what only a sweep can do.

    Raises:
        UserError: If a single run is to start several processes.
    """
    if config.processes > 1:
        raise UserError(
            f"Invalid processes: {config.processes}. It is for sweeps (--multirun); start a "
            "single run by torchrun."
        )
