"""The entry point: `python -m experiments.train task=digits optimizer=adafisher seed=0`.

`torchrun --nproc-per-node=2 -m experiments.train ...` is the same run in two processes.
"""

import sys
from collections.abc import Callable

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from experiments.config import commandline, completion, compose, grids, origin
from experiments.errors import UserError, report_user_errors
from experiments.records.outcome import EXIT_CODES
from experiments.records.schema import FAULTS
from experiments.sweep import launchers, preflight, sweep
from experiments.system import ranks
from experiments.system.log import show_log
from experiments.timing import calibration


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def run(config: DictConfig) -> None:
    """Execute one config here."""
    with report_user_errors(quiet=not ranks.reports()):
        resolved = origin.traced(compose.resolve(config))
        from experiments.run.run import (
            execute,  # loads torch, which a sweep's parent can do without
        )

        status = execute(resolved).status
        # A launcher takes every code but 0 for a fault. The first process tells how the run ended,
        # another one that it broke.
        tells = ranks.rank() == 0 or status in FAULTS
        sys.exit(EXIT_CODES[status] if tells else 0)


def job_of(context: sweep.Sweep, first: int) -> Callable[[], None]:
    """What Hydra runs for each config of a grid, whose jobs are numbered from ``first``."""

    @hydra.main(version_base="1.3", config_path="../conf", config_name="train")
    def job(config: DictConfig) -> None:
        number = first + HydraConfig.get().job.num
        resolved = origin.traced(compose.resolve(config))
        sweep.execute_job(resolved, context, number=number)

    return job


def main() -> None:
    """Check what was typed, then hand it to Hydra."""
    show_log()
    arguments, _ = get_args_parser().parse_known_args()
    if arguments.shell_completion and completion.INSTALL in arguments.overrides:
        print(completion.SCRIPT)
        return
    launchers.register()
    with report_user_errors(quiet=not ranks.reports()):
        overrides = commandline.normalise(arguments.overrides)
        options = [item for item in sys.argv[1:] if item not in arguments.overrides]
        sweeps = grids.spelled_out(overrides) if arguments.multirun else [overrides]
        sys.argv[1:] = [*options, *sweeps[0]]
        if arguments.help or arguments.hydra_help or arguments.info or arguments.shell_completion:
            run()
            return
        if arguments.cfg and arguments.multirun:
            raise UserError("--cfg shows the config of one run: leave --multirun out.")
        if ranks.count() > 1 and arguments.multirun:
            raise UserError("A sweep (-m) does not run under torchrun. Use processes=<n>.")
        if ranks.rank() > 0:  # a mistake is the same everywhere, and the first process says it
            compose.composed(overrides)
            GlobalHydra.instance().clear()
            run()
            return
        firsts = [preflight.check(grid) for grid in sweeps]
        first = firsts[0]
        if not arguments.multirun:
            launchers.check_single(first)
            run()
            return
        launcher = launchers.of(sweeps[0])
        calibration.prepare(sweeps, firsts)
        sizes = [len(commandline.jobs(grid)) for grid in sweeps]
        launches = [[*options, *grid] for grid in sweeps]

        def launch(context: sweep.Sweep) -> None:
            for index, arguments in enumerate(launches):
                sys.argv[1:] = arguments
                job_of(context, sum(sizes[:index]))()

        code = sweep.run(
            launch, first, size=sum(sizes), parallel=launcher.parallel, shown=launcher.shows_jobs
        )
    sys.exit(code)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(EXIT_CODES["interrupted"])
