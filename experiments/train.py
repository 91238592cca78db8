"""Train one run, or sweep: `python -m experiments.train task=digits optimizer=adafisher seed=0`.

`torchrun --nproc-per-node=2 -m experiments.train ...` is the same run in two processes.
"""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from hydra import version
from hydra._internal.utils import _run_hydra, get_args_parser

from experiments.config import arguments, commandline, completion, compose, grids, origin
from experiments.config.run_config import RunConfig
from experiments.errors import UserError, report_user_errors
from experiments.records.outcome import EXIT_CODES
from experiments.records.schema import FAULTS
from experiments.sweep import launchers, launching, preflight
from experiments.system import ranks


def main(words: Sequence[str]) -> int:
    """Check what was typed, then run it or hand it to a sweep; returns the exit code."""
    with report_user_errors(quiet=not ranks.reports()):
        typed = _read(words)
        if typed.shell_completion and completion.INSTALL in typed.overrides:
            print(completion.SCRIPT)
            return 0
        if typed.hydra_help or typed.shell_completion:
            return _through_hydra(typed, typed.overrides)
        overrides = commandline.normalise(typed.overrides)
        if not typed.multirun:
            return _single(typed, overrides)
        if ranks.count() > 1:
            raise UserError("A sweep (-m) does not run under torchrun. Use processes=<n>.")
        return launching.launch(overrides)


def run(overrides: Sequence[str], config: RunConfig) -> int:
    """Execute one config here; returns the exit code of this process.

    Args:
        overrides: Those that make it.
        config: What they compose to.
    """
    from experiments.run import execute  # loads torch, which a sweep's parent can do without

    status = execute(config.having(origin=origin.of(config, overrides))).status
    # A launcher takes every code but 0 for a fault. The first process tells how the run ended,
    # another one that it broke.
    tells = ranks.rank() == 0 or status in FAULTS
    return EXIT_CODES[status] if tells else 0


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
    commandline.single(overrides)
    if typed.help or typed.cfg or typed.info:
        compose.composed(overrides)
        return _through_hydra(typed, overrides)
    grids.check_single(overrides)
    if ranks.rank() > 0:  # a mistake is the same in every process, and the first one says it
        return run(overrides, compose.composed(overrides))
    config = preflight.check(overrides)
    launchers.check_single(config)
    preflight.check_writable(config.runs_dir)
    return run(overrides, config)


def _through_hydra(typed: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Let Hydra show what ``hydra.main`` can show, for overrides that were made ready."""
    version.setbase("1.3")
    _run_hydra(
        args=argparse.Namespace(**{**vars(typed), "overrides": list(overrides)}),
        args_parser=get_args_parser(),
        task_function=lambda config: None,
        config_path=str(commandline.CONF),
        config_name="train",
    )
    return 0


if __name__ == "__main__":
    arguments.command(main)
