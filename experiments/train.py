"""The entry point: `python -m experiments.train task=digits optimizer=adafisher seed=0`.

`torchrun --nproc-per-node=2 -m experiments.train ...` is the same run in two processes.
"""

import sys

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from experiments import calibration, commandline, grids, preflight, processes, sweep
from experiments.display import show_log
from experiments.errors import UserError, report_user_errors
from experiments.outcome import EXIT_CODES


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def job(config: DictConfig) -> None:
    """Execute one config: here, or as a job of a sweep in a child process."""
    context = HydraConfig.get()
    with report_user_errors(quiet=not processes.reports()):
        resolved = preflight.resolve(config)
        if context.mode == RunMode.MULTIRUN:
            parallel = context.launcher.get("n_jobs", 1)
            sweep.execute_job(resolved, number=context.job.num, parallel=parallel)
            return
        from experiments.run import execute  # loads torch, which a sweep's parent can do without

        status = execute(resolved).status
        # A launcher takes every code but 0 for a fault. The first process tells how the run ended,
        # another one that it broke.
        tells = processes.rank() == 0 or status in ("failed", "out_of_memory")
        sys.exit(EXIT_CODES[status] if tells else 0)


def main() -> None:
    """Check what was typed, then hand it to Hydra."""
    show_log()
    arguments, _ = get_args_parser().parse_known_args()
    with report_user_errors(quiet=not processes.reports()):
        overrides = commandline.normalise(arguments.overrides)
        options = [item for item in sys.argv[1:] if item not in arguments.overrides]
        sweeps = grids.spelled_out(overrides) if arguments.multirun else [overrides]
        sys.argv[1:] = [*options, *sweeps[0]]
        if arguments.help or arguments.hydra_help or arguments.info or arguments.shell_completion:
            job()
            return
        if processes.count() > 1 and arguments.multirun:
            raise UserError("A sweep (-m) does not run under torchrun. Start its runs one by one.")
        if processes.rank() > 0:  # a mistake is the same everywhere, and the first process says it
            preflight.composed(overrides)
            GlobalHydra.instance().clear()
            job()
            return
        firsts = [preflight.check(grid) for grid in sweeps]
        if not arguments.multirun or arguments.cfg:
            job()
            return
        calibration.prepare(sweeps, firsts)
        sizes = [len(commandline.jobs(grid)) for grid in sweeps]
        launches = [[*options, *grid] for grid in sweeps]
        sys.exit(sweep.run(lambda: _launch(launches, sizes), firsts[0], size=sum(sizes)))


def _launch(launches: list[list[str]], sizes: list[int]) -> None:
    """Let Hydra run one grid after another; its jobs are numbered through."""
    for index, arguments in enumerate(launches):
        sweep.number_from(sum(sizes[:index]))
        sys.argv[1:] = arguments
        job()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(EXIT_CODES["interrupted"])
