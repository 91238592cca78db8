"""From what was typed to the runs of a sweep: composed once, tried out, handed to a launcher."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig

from experiments.config import grids, origin
from experiments.config.run_config import RunConfig
from experiments.errors import refusal
from experiments.sweep import forks, launchers, live, preflight, sweep
from experiments.sweep.preflight import Job
from experiments.sweep.shared_folder import Ends, SweepFolder
from experiments.sweep.sweep import Sweep
from experiments.system.output import say
from experiments.timing import calibration


def launch(overrides: list[str]) -> int:
    """Run every distinct run of a sweep.

    Args:
        overrides: As typed, see ``commandline.normalise``.

    Returns:
        The exit code.

    Raises:
        UserError: At the first mistake; nothing was run then.
    """
    is_over = False
    try:
        with live.preparing() as tell:
            config, traits, led, jobs = _prepared(overrides, tell)
        # What it finds are lines of a table, which the display of the preparation would garble.
        calibration.prepare(
            [job.config for job in jobs if not job.is_done],
            traits.parallel,
            cores_each=traits.cores_each,
        )
        code = sweep.run(
            led,
            _traced(jobs),
            lambda jobs: launchers.launch(config, _Runs(led), jobs),
            done={number for number, job in enumerate(jobs) if job.is_done},
            shown=traits.shows_jobs,
        )
        is_over = True
        return code
    finally:
        forks.end(at_once=not is_over)


def _prepared(
    overrides: list[str], tell: Callable[[str], None]
) -> tuple[DictConfig, launchers.LauncherTraits, Sweep, list[Job]]:
    """Compose and check everything; gives the launcher's config and traits, the sweep, its jobs."""
    spelled = grids.spelled_out(overrides)
    config = launchers.compose(spelled[0])
    traits = launchers.traits(config)
    asked: Sweep | None = None

    def meet(job: Job) -> None:
        """Have what the first run needs loaded, while the other jobs are composed."""
        nonlocal asked
        tell(f"{job.config.label}: composed")
        if asked is None and not job.is_done:
            asked = _led(job.config, traits)
            if not job.config.fresh:
                forks.prepare(sweep.share(job.config, asked, 0)[1], str(asked.folder))

    jobs = _distinct([job for grid in spelled for job in preflight.composed(grid, meet=meet)])
    first = jobs[0].config
    to_inspect = preflight.to_inspect(jobs)
    if asked is not None:
        more = f" and {len(to_inspect) - 1} more" if len(to_inspect) > 1 else ""
        tell(f"{to_inspect[0].config.label}{more}: looking for data, trying out")
        preflight.inspect(to_inspect, sweep.share(to_inspect[0].config, asked, 0)[1])
    if not traits.here:
        forks.end()  # the processes of the jobs have servers of their own
    preflight.check_writable(first.runs_dir)
    led = replace(asked or _led(first, traits), size=len(jobs))
    return config, traits, led, jobs


def _led(first: RunConfig, traits: launchers.LauncherTraits) -> Sweep:
    return Sweep.of(first, size=0, parallel=traits.parallel, cores_each=traits.cores_each)


@dataclass(frozen=True)
class _Runs:
    """A job of a launcher: runs, one after another; it travels to the process that executes it."""

    sweep: Sweep

    def __call__(self, numbers: Sequence[int]) -> None:
        shared = SweepFolder(self.sweep.folder)
        try:
            # Of an earlier attempt, where the job was queued again.
            ended = _ends(shared.path).read()
            for number in numbers:
                if number in ended and ended[number].status != "interrupted":
                    continue
                config = RunConfig.of(shared.planned(number))
                if not sweep.execute_job(config, self.sweep, number=number):
                    return
        except OSError as error:  # of the sweep's own folder; Hydra would show where it was raised
            line = refusal(error)
            if line is None:
                raise
            say(f"error: {line}", error=True)


@functools.cache
def _ends(folder: Path) -> Ends:
    """Keep what was read of a ledger from one job of this process to the next."""
    return Ends(SweepFolder(folder))


def _distinct(jobs: Sequence[Job]) -> list[Job]:
    """Take each run once, and say which were asked for more than once."""
    kept: dict[str, Job] = {}
    repeated: list[str] = []
    for job in jobs:
        run_id = job.config.run_id
        if kept.setdefault(run_id, job) is not job:
            repeated.append(f"{job.config.label} (run {run_id})")
    if repeated:
        more = f" and {len(repeated) - 1} more" if len(repeated) > 1 else ""
        say(f"note: asked for more than once, run once: {repeated[0]}{more}", error=True)
    return list(kept.values())


def _traced(jobs: Sequence[Job]) -> list[RunConfig]:
    """Add to each config that is to run where it comes from, which is the same for all seeds."""
    known: dict[str, origin.Facts] = {}
    configs = []
    for job in jobs:
        config = job.config
        if not job.is_done:
            key = config.having(seed=0).run_id
            if key not in known:
                known[key] = origin.of(config, job.overrides)
            config = config.having(origin=known[key])
        configs.append(config)
    return configs
