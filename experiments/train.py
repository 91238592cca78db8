"""Train one run, or sweep: `python -m experiments.train task=digits optimizer=adafisher seed=0`.

`torchrun --nproc-per-node=2 -m experiments.train ...` is the same run in two processes.
"""

import argparse
import sys
from collections.abc import Sequence

from hydra import version
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import TaskFunction
from omegaconf import DictConfig

from experiments.config import arguments, commandline, completion, compose, grids, origin
from experiments.errors import UserError, refusal, report_user_errors
from experiments.records.outcome import EXIT_CODES
from experiments.records.schema import FAULTS
from experiments.sweep import launchers, preflight, sweep
from experiments.system import ranks
from experiments.timing import calibration


def main(words: Sequence[str]) -> int:
    """Check what was typed, then run it or hand it to a sweep; returns the exit code."""
    typed = get_args_parser().parse_args(list(words))
    if typed.shell_completion and completion.INSTALL in typed.overrides:
        print(completion.SCRIPT)
        return 0
    launchers.register()
    with report_user_errors(quiet=not ranks.reports()):
        if typed.experimental_rerun is not None:
            raise UserError("--experimental-rerun is none of ours: use `make replay RUN=<id>`.")
        overrides = commandline.normalise(typed.overrides)
        sweeps = grids.spelled_out(overrides) if typed.multirun else [overrides]
        if typed.help or typed.hydra_help or typed.info or typed.shell_completion:
            return _through_hydra(run, typed, sweeps[0])
        if typed.cfg and typed.multirun:
            raise UserError("--cfg shows the config of one run: leave --multirun out.")
        if ranks.count() > 1 and typed.multirun:
            raise UserError("A sweep (-m) does not run under torchrun. Use processes=<n>.")
        if ranks.rank() > 0:  # a mistake is the same everywhere, and the first process says it
            compose.composed(overrides)
            GlobalHydra.instance().clear()
            return _through_hydra(run, typed, overrides)
        firsts = [preflight.check(grid) for grid in sweeps]
        if not typed.multirun:
            launchers.check_single(firsts[0])
            return _through_hydra(run, typed, overrides)
        launcher = launchers.of(sweeps[0])
        calibration.prepare(sweeps, firsts)
        sizes = [len(commandline.jobs(grid)) for grid in sweeps]

        def launch(context: sweep.Sweep) -> None:
            for index, grid in enumerate(sweeps):
                _through_hydra(job_of(context, sum(sizes[:index])), typed, grid)

        return sweep.run(
            launch,
            firsts[0],
            size=sum(sizes),
            parallel=launcher.parallel,
            shown=launcher.shows_jobs,
        )


def run(config: DictConfig) -> None:
    """Execute one config here."""
    with report_user_errors(quiet=not ranks.reports()):
        resolved = origin.traced(compose.resolve(config))
        from experiments.run import execute  # loads torch, which a sweep's parent can do without

        status = execute(resolved).status
        # A launcher takes every code but 0 for a fault. The first process tells how the run ended,
        # another one that it broke.
        tells = ranks.rank() == 0 or status in FAULTS
        sys.exit(EXIT_CODES[status] if tells else 0)


def job_of(context: sweep.Sweep, first: int) -> TaskFunction:
    """Make what Hydra runs for each config of a grid, whose jobs are numbered from ``first``."""

    def job(config: DictConfig) -> None:
        number = first + HydraConfig.get().job.num
        resolved = origin.traced(compose.resolve(config))
        try:
            sweep.execute_job(resolved, context, number=number)
        except OSError as error:  # of the sweep's own folder; Hydra would show where it was raised
            line = refusal(error)
            if line is None:
                raise
            print(f"error: {line}", file=sys.stderr, flush=True)

    return job


def _through_hydra(
    function: TaskFunction, typed: argparse.Namespace, overrides: Sequence[str]
) -> int:
    """Do what ``hydra.main`` does, for overrides that are not those of this process."""
    version.setbase("1.3")
    _run_hydra(
        args=argparse.Namespace(**{**vars(typed), "overrides": list(overrides)}),
        args_parser=get_args_parser(),
        task_function=function,
        config_path=str(commandline.CONF),
        config_name="train",
    )
    return 0


if __name__ == "__main__":
    arguments.command(main)
