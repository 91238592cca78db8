"""Which launcher runs the jobs of a sweep, and how they share its machine."""

import importlib.util
import shutil
from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from experiments.config import commandline
from experiments.config.compose import compose_job
from experiments.config.run_config import RunConfig
from experiments.errors import UserError
from experiments.system.cores import side_by_side

# Hydra instantiates plugins of this package alone; the class is registered under such a name.
_RAY = "hydra_plugins.ray_launcher.RayLauncher"


@dataclass(frozen=True)
class LauncherTraits:
    """How a launcher runs jobs.

    Attributes:
        parallel: How many share this machine; None: a scheduler gives each job its own part.
        shows_jobs: Whether what they print comes to this terminal.
    """

    parallel: int | None
    shows_jobs: bool


def register() -> None:
    """Make the launcher for Ray known to Hydra, as ``hydra/launcher=ray``."""
    from experiments.sweep.ray_launcher import RayLauncher

    Plugins.instance().class_name_to_class[_RAY] = RayLauncher
    ConfigStore.instance().store(
        group="hydra/launcher", name="ray", node={"_target_": _RAY, "n_jobs": 1}
    )


def of(overrides: list[str]) -> LauncherTraits:
    """Tell how the launcher that the overrides name, or their experiment, runs the jobs.

    Raises:
        UserError: If it cannot run here, or as many jobs as asked for.
    """
    (job, *_) = commandline.jobs(overrides)
    config = compose_job(job)
    launcher, jobs = config.hydra.launcher, config.jobs
    if "array_parallelism" in launcher:
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise UserError("launcher=submitit_slurm: there is no sbatch or srun. Use local.")
        return LauncherTraits(parallel=None, shows_jobs=False)
    if "submitit_folder" in launcher:
        return LauncherTraits(parallel=jobs, shows_jobs=False)
    if launcher._target_ == _RAY and importlib.util.find_spec("ray") is None:
        raise UserError("launcher=ray: the package ray is not installed. Use joblib.")
    if "n_jobs" in launcher:
        return LauncherTraits(side_by_side(launcher.n_jobs), shows_jobs=launcher._target_ != _RAY)
    if jobs > 1:
        raise UserError(
            f"Invalid jobs: {jobs}. launcher=local runs one after another; launcher=joblib and "
            "others run several."
        )
    return LauncherTraits(parallel=1, shows_jobs=True)


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
