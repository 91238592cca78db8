"""What a step of each method costs on this machine, for a budget that gives all the same time.

Each method of a setting takes turns with the reference (``steady``), in a process of its own. The
result is kept under ``<runs_dir>/.calibration/``, one file for each method and reference: a rerun,
another seed, a plan and the benchmark read it. A run keeps a copy in its folder and goes by that
one for ever.

`python -m experiments calibration runs_dir=runs` checks finished runs: the time that each was
given, and the time that it took. With `out=FILE` the check goes to that file too, as JSON.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.config import arguments, budget
from experiments.config.run_config import RunConfig
from experiments.errors import UserError
from experiments.records.calibration import RUN_FILE, Calibration, read
from experiments.records.outcome import PreparationError
from experiments.records.schema import BrokenRecordError, is_to_run
from experiments.records.store import RunFolder
from experiments.system import ranks
from experiments.system.cores import threads_of
from experiments.system.output import say
from experiments.timing import calibration_key, calibration_process
from experiments.timing.calibration_process import Failure


def known(config: RunConfig, runs_dir: Path) -> Calibration | None:
    """Find what was measured for a config, with any budget, on such a machine; None if nothing was.

    Args:
        config: The resolved config; ``threads`` null stands for all cores.
        runs_dir: Where the runs and the cache are.
    """
    return read(calibration_key.path_of(config, runs_dir))


def of_any_reference(config: RunConfig, runs_dir: Path) -> Calibration | None:
    """Find what was measured for a config, whatever it was beside: a plan wants its seconds."""
    return known(config, runs_dir) or next(
        filter(None, map(read, calibration_key.beside_any(config, runs_dir))), None
    )


def measure(configs: Sequence[RunConfig], runs_dir: Path) -> list[Calibration | Failure]:
    """Measure what is not known yet, the methods of a setting in one process.

    Args:
        configs: Resolved configs.
        runs_dir: Where the cache is.

    Returns:
        The calibration of each config, or why there is none.
    """
    settings: dict[str, list[int]] = {}
    for index, config in enumerate(configs):
        if known(config, runs_dir) is None:
            settings.setdefault(calibration_key.setting_key(config), []).append(index)
    failures: dict[int, Failure | None] = {}
    for alike in settings.values():
        measured = calibration_process.measure([configs[index] for index in alike], runs_dir)
        failures |= dict(zip(alike, measured, strict=True))
    return [_result(config, runs_dir, failures.get(i)) for i, config in enumerate(configs)]


def prepare(
    configs: Sequence[RunConfig], parallel: int | None, *, cores_each: int | None = None
) -> None:
    """Measure what the runs of a sweep need, before the first of them starts.

    A method that cannot be measured is told of, and ends none of the others: its runs try once
    more, each by itself, and record what came of it.

    Args:
        configs: Those of the runs.
        parallel: How many share this machine; None: a scheduler gives each its own part.
        cores_each: Of a run, where that is known of its part.
    """
    wanted: dict[Path, dict[str, RunConfig]] = {}
    for config in configs:
        if budget.reference(config.budget) is not None and _is_open(config):
            own = config.having(threads=threads_of(config, parallel or 1, given=cores_each))
            alike = wanted.setdefault(config.runs_dir, {})
            alike.setdefault(own.having(seed=0).run_id, own)  # seeds cost the same
    for runs_dir, of_methods in wanted.items():
        methods = list(of_methods.values())
        for one, found in zip(methods, measure(methods, runs_dir), strict=True):
            if not isinstance(found, Calibration):
                label = one.label.rpartition(" seed ")[0]
                say(f"warning: {label}: {found}", error=True)


def of_run(
    config: RunConfig, folder: RunFolder, notify: Callable[[str], None]
) -> Calibration | None:
    """Find the calibration that a run goes by: its own, else the cache's, else measure it.

    Args:
        config: The resolved config.
        folder: The run's folder, whose lock is held.
        notify: Receives one line if something has to be measured.

    Returns:
        None for a budget that matches no time.

    Raises:
        PreparationError: If it cannot be measured.
        UserError: If that of a run already begun cannot be read, or the config is at fault.
    """
    if budget.reference(config.budget) is None:
        return None
    path = folder.path / RUN_FILE
    if path.exists():
        own = read(path)
        if own is None:
            raise UserError(f"{path}: not readable. Delete {folder.path} to start the run anew.")
        return own
    if config.threads is None:
        import torch

        config = config.having(threads=torch.get_num_threads())
    found = known(config, folder.runs_dir)
    if found is not None:
        return found
    notify("measuring the seconds of a step")
    (measured,) = measure([config], folder.runs_dir)
    if isinstance(measured, Calibration):
        return measured
    raise measured


def check(config: RunConfig) -> None:
    """Refuse a budget that no calibration can serve.

    Raises:
        UserError: If the reference is unknown, or a run has several processes.
    """
    if budget.reference(config.budget) is None:
        return
    calibration_key.reference_section(config)
    several = max(ranks.count(), config.processes)
    if several > 1:
        raise UserError(f"Invalid processes: {several}. With budget=match_seconds it must be 1.")


def _result(config: RunConfig, runs_dir: Path, failure: Failure | None) -> Calibration | Failure:
    found = known(config, runs_dir)
    if found is not None:
        return found
    return failure or PreparationError("calibration: what was measured cannot be read back")


def _is_open(config: RunConfig) -> bool:
    """Tell whether a sweep would start the run, without a calibration of its own."""
    folder = RunFolder(config.runs_dir, config.run_id)
    if (folder.path / RUN_FILE).exists():
        return False
    try:
        run = folder.read()
    except BrokenRecordError:
        return True
    return run is None or is_to_run(run.status, retry=config.retry)


@dataclass(frozen=True)
class CalibrationOptions:
    """Where the runs are, and a file for the numbers; null: none."""

    runs_dir: Path = Path("runs")
    out: Path | None = None


def main(words: Sequence[str]) -> int:
    """Check the finished runs of a matched training time; returns the exit code."""
    from experiments.timing import calibration_report

    options, _ = arguments.parse(words, CalibrationOptions)
    return calibration_report.main(options.runs_dir, options.out)
