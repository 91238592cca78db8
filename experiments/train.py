"""Train one run, or sweep: `python -m experiments.train task=digits optimizer=adafisher seed=0`.

`torchrun --nproc-per-node=2 -m experiments.train ...` is the same run in two processes.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from hydra import version
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import TaskFunction
from omegaconf import DictConfig

from experiments.config import arguments, commandline, completion, compose, grids, origin
from experiments.config.compositions import run_configs
from experiments.config.run_config import RunConfig
from experiments.errors import UserError, refusal, report_user_errors
from experiments.records.outcome import EXIT_CODES
from experiments.records.schema import FAULTS
from experiments.sweep import launchers, preflight, sweep
from experiments.system import ranks
from experiments.system.output import say
from experiments.timing import calibration


def main(words: Sequence[str]) -> int:
    """Check what was typed, then run it or hand it to a sweep; returns the exit code."""
    with report_user_errors(quiet=not ranks.reports()):
        typed = _read(words)
        if typed.shell_completion and completion.INSTALL in typed.overrides:
            print(completion.SCRIPT)
            return 0
        launchers.register()
        if typed.hydra_help or typed.shell_completion:
            return _through_hydra(run, typed, typed.overrides)
        overrides = commandline.normalise(typed.overrides)
        if not typed.multirun:
            return _single(typed, overrides)
        if ranks.count() > 1:
            raise UserError("A sweep (-m) does not run under torchrun. Use processes=<n>.")
        return _sweep(typed, overrides)


def run(config: DictConfig) -> None:
    """Execute one config here."""
    with report_user_errors(quiet=not ranks.reports()):
        resolved = origin.traced(_resolved(config))
        from experiments.run import execute  # loads torch, which a sweep's parent can do without

        status = execute(resolved).status
        # A launcher takes every code but 0 for a fault. The first process tells how the run ended,
        # another one that it broke.
        tells = ranks.rank() == 0 or status in FAULTS
        sys.exit(EXIT_CODES[status] if tells else 0)


def job_of(context: sweep.Sweep, numbers: Sequence[int | None]) -> TaskFunction:
    """Make what Hydra runs for each config of a grid.

    Args:
        context: The sweep.
        numbers: Of each job of the grid, the number of its run; None: an earlier job is the same.
    """

    def job(config: DictConfig) -> None:
        number = numbers[HydraConfig.get().job.num]
        if number is None:
            return
        try:
            sweep.execute_job(origin.traced(_resolved(config)), context, number=number)
        except OSError as error:  # of the sweep's own folder; Hydra would show where it was raised
            line = refusal(error)
            if line is None:
                raise
            say(f"error: {line}", error=True)

    return job


def _read(words: Sequence[str]) -> argparse.Namespace:
    """Read Hydra's options wherever they stand, and refuse those that are not of this suite."""

    def refuse(message: str) -> NoReturn:
        raise UserError(f"Invalid arguments: {message}.")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    typed = parser.parse_intermixed_args(list(words))
    if typed.experimental_rerun is not None:
        raise UserError("--experimental-rerun is none of ours: use `make replay RUN=<id>`.")
    for option in ("config_name", "config_path", "config_dir"):
        if getattr(typed, option) is not None:
            name = option.replace("_", "-")
            raise UserError(f"--{name} is none of ours: what is composed lies in conf/.")
    shows = typed.cfg or typed.info
    if shows and (typed.multirun or typed.run):
        kind = "cfg" if typed.cfg else "info"
        raise UserError(f"--{kind} shows the config of one run: leave --multirun and --run out.")
    if typed.run and typed.multirun:
        raise UserError("--run and --multirun: must be one of them.")
    if typed.resolve and not (typed.cfg or typed.help):
        raise UserError("--resolve goes with --cfg alone.")
    return typed


def _single(typed: argparse.Namespace, overrides: list[str]) -> int:
    """Run one config, or show it, for which no data need be there."""
    shows = typed.help or typed.cfg or typed.info
    commandline.check_single(overrides)
    if not shows:
        grids.check_single(overrides)
    # A mistake is the same in every process, and the first one says it.
    if shows or ranks.rank() > 0:
        compose.composed(overrides)
    else:
        first = preflight.check(overrides)
        launchers.check_single(first)
        preflight.check_writable(first.runs_dir)
    return _through_hydra(run, typed, overrides)


def _sweep(typed: argparse.Namespace, overrides: list[str]) -> int:
    """Hand every distinct run of a sweep to its launcher."""
    sweeps = grids.spelled_out(overrides)
    firsts = [preflight.check(grid) for grid in sweeps]
    launcher = launchers.of(sweeps[0])
    numbers = _numbered(sweeps)
    preflight.check_writable(firsts[0].runs_dir)
    calibration.prepare(sweeps, firsts)

    def launch(context: sweep.Sweep) -> None:
        for grid, own in zip(sweeps, numbers, strict=True):
            _through_hydra(job_of(context, own), typed, grid)

    return sweep.run(
        launch,
        firsts[0],
        size=sum(number is not None for own in numbers for number in own),
        parallel=launcher.parallel,
        shown=launcher.shows_jobs,
    )


def _numbered(sweeps: Sequence[list[str]]) -> list[list[int | None]]:
    """Give each job of a sweep the number of its run; None: an earlier job is the same run."""
    known: set[str] = set()
    numbers: list[list[int | None]] = []
    repeated: list[str] = []
    for grid in sweeps:
        numbers.append([])
        for _, config in run_configs(grid):
            is_new = config.run_id not in known
            numbers[-1].append(len(known) if is_new else None)
            known.add(config.run_id)
            if not is_new:
                repeated.append(f"{config.label} (run {config.run_id})")
    if repeated:
        more = f" and {len(repeated) - 1} more" if len(repeated) > 1 else ""
        say(f"note: asked for more than once, run once: {repeated[0]}{more}", error=True)
    return numbers


def _resolved(config: DictConfig) -> RunConfig:
    """Resolve what Hydra composed for a job."""
    return compose.resolve(config, HydraConfig.get().runtime.choices)


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
