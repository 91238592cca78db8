"""Hydra's launchers for submitit, but that the death of a job ends no other and not the sweep.

hydra-submitit-launcher 1.2 raises at the first job that died, while others run; the process that
leads the sweep would be gone before them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher import submitit_launcher
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from omegaconf import OmegaConf

_CANCELLED = "CANCELLED"  # what SLURM says of a job that somebody took out


class _PatientLauncher(submitit_launcher.BaseSubmititLauncher):
    """Submits jobs and waits for the end of each."""

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
        import submitit

        assert self.config is not None
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        common = OmegaConf.structured(BaseQueueConf).keys()
        settings = {
            key if key in common else f"{self._EXECUTOR}_{key}": value
            for key, value in self.params.items()
        }
        of_executor = {"folder": settings.pop("submitit_folder")}
        most_timeouts = f"{self._EXECUTOR}_max_num_timeout"
        if most_timeouts in settings:
            of_executor[most_timeouts] = settings.pop(most_timeouts)
        executor = submitit.AutoExecutor(cluster=self._EXECUTOR, **of_executor)
        executor.update_parameters(**settings)
        given = [
            (list(overrides), "hydra.sweep.dir", initial_job_idx + at, "", Singleton.get_state())
            for at, overrides in enumerate(job_overrides)
        ]
        return [_result(job) for job in executor.map_array(self, *zip(*given, strict=True))]


def _result(job: Any) -> JobReturn:
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        result: JobReturn = job.results()[0]
    except UncompletedJobError as error:
        is_told = isinstance(error, FailedJobError) or str(job.state).startswith(_CANCELLED)
        result = JobReturn(status=JobStatus.FAILED if is_told else JobStatus.UNKNOWN)
        result.return_value = error
    return result


class LocalLauncher(_PatientLauncher):
    """Each job is a process of this machine."""

    _EXECUTOR = "local"


class SlurmLauncher(_PatientLauncher):
    """Each job is an element of a SLURM array."""

    _EXECUTOR = "slurm"


PLACES = {
    f"{submitit_launcher.__name__}.{launcher.__name__}": launcher
    for launcher in (LocalLauncher, SlurmLauncher)
}
"""By the name under which Hydra looks for Hydra's own."""
