"""Tuning: as many trials for every method, over a space of equal width, on validation only.

`python -m experiments.tune optimizer=adafisher,adam task=digits trials=8` writes the best trial of
each pair to conf/tuned/<task>/<name>.yaml, with the ledger of all trials in the file's header.
Trials are runs of a sweep: they resume, they are isolated, and a diverged one is a result.
"""

import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import qmc

from experiments import budget, commandline, identity, preflight
from experiments.errors import UserError, report_user_errors
from experiments.record import BrokenRecordError, Run, load_run
from experiments.store import write_atomic

SEED = 1000
"""Seed of every trial, apart from the seeds that results are reported for."""

TRIALS = 8
TRIALS_DIR = ".tuning"
_OWN_KEYS = ("optimizer", "task", "trials")


@dataclass(frozen=True)
class Trial:
    """One learning rate and what validation says of it."""

    value: float
    status: str
    metric: float | None  # best validation value over the evaluations
    loss: float | None  # validation loss at that evaluation; decides between equal metrics


def points(space: Mapping[str, Any], trials: int) -> list[float]:
    """Quasi-random points of a log-scaled interval, the same in the unit interval for every method.

    Args:
        space: ``low`` and ``high``.
        trials: How many.

    Returns:
        The points, rounded to three digits.

    Reference:
        Owen, "Scrambling Sobol' and Niederreiter-Xing points", J. Complexity 14 (1998).
    """
    # The size of a Sobol' set is a power of two; its beginning is as well spread as can be.
    sampler = qmc.Sobol(d=1, scramble=True, seed=0)
    unit = sampler.random_base2(max(0, math.ceil(math.log2(trials))))[:trials, 0]
    return [float(f"{space['low'] * (space['high'] / space['low']) ** u:.3g}") for u in unit]


def choose(trials: Sequence[Trial], *, higher_is_better: bool) -> Trial:
    """Return the best trial by metric, then by loss.

    Raises:
        UserError: If no trial has a value.
    """
    sign = 1.0 if higher_is_better else -1.0
    scored = [
        ((sign * trial.metric, -trial.loss), index)
        for index, trial in enumerate(trials)
        if trial.metric is not None and trial.loss is not None
    ]
    if not scored:
        raise UserError("No trial has a finite validation metric: there is nothing to choose from.")
    return trials[max(scored)[1]]


def on_edge(chosen: Trial, trials: Sequence[Trial]) -> bool:
    """Whether the chosen value is the smallest or the largest that was tried."""
    values = [trial.value for trial in trials]
    return chosen.value in (min(values), max(values))


def result(run: Run | None, value: float) -> Trial:
    """Read a trial off its run."""
    if run is None:
        return Trial(value, "failed", None, None)
    metric = f"validation_{run.identity['metric']}"
    rows = [row for row in run.rows if math.isfinite(row.get(metric, math.nan))]
    if run.status != "done":
        return Trial(value, run.status, None, None)
    if not rows:
        return Trial(value, "never finite", None, None)
    sign = 1.0 if run.identity["higher_is_better"] else -1.0
    best = max(rows, key=lambda row: (sign * row[metric], -row["validation_loss"]))
    return Trial(value, run.status, best[metric], best["validation_loss"])


def tune(optimizer: str, task: str, trials: int, overrides: Sequence[str]) -> Path:
    """Run the trials of one method on one task and write the best.

    Args:
        optimizer: Name in conf/optimizer.
        task: Name in conf/task.
        trials: How many points of the method's space are tried.
        overrides: Further overrides, the same for every trial.

    Returns:
        The file that was written.

    Raises:
        UserError: If the sweep of the trials refuses its input, or no trial has a value.
        KeyboardInterrupt: If it was interrupted; asked again, it goes on where it was.
    """
    base = [*overrides, "ruleset=default", f"seed={SEED}", "tracking=none"]
    base += [f"optimizer={optimizer}", f"task={task}"]
    single = [item for item in commandline.normalise(base) if not item.startswith("hydra")]
    config = preflight.composed(single)
    config["runs_dir"] = str(Path(config["runs_dir"]) / TRIALS_DIR)
    candidates = points(config["optimizer"]["search"]["lr"], trials)
    values = ",".join(str(value) for value in candidates)
    sweep = [*base, f"optimizer.lr={values}", f'runs_dir="{config["runs_dir"]}"']
    command = [sys.executable, "-m", "experiments.train", "--multirun", *sweep]
    code = subprocess.run(command, check=False).returncode
    if code == 130:
        raise KeyboardInterrupt
    if code == 2:
        raise UserError(f"The trials of {optimizer} on {task} cannot run; the line above says why.")
    runs = [_read(config, value) for value in candidates]
    known = next((run.identity for run in runs if run is not None), None)
    if known is None:
        raise UserError(f"No trial of {optimizer} on {task} left a record.")
    results = [result(run, value) for run, value in zip(runs, candidates, strict=True)]
    facts = {"metric": known["metric"], "higher_is_better": known["higher_is_better"]}
    path = commandline.CONF / "tuned" / task / f"{optimizer}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, _render(config, results, **facts).encode())
    return path


def _read(config: Mapping[str, Any], value: float) -> Run | None:
    trial = {**config, "optimizer": {**config["optimizer"], "lr": value}}
    try:
        return load_run(Path(config["runs_dir"]) / identity.run_id(trial))
    except BrokenRecordError:
        return None


def _render(
    config: Mapping[str, Any], results: Sequence[Trial], *, metric: str, higher_is_better: bool
) -> str:
    """Render the YAML of the best trial, with the ledger as its header."""
    task, optimizer = config["task"]["name"], config["optimizer"]["name"]
    space = config["optimizer"]["search"]["lr"]
    best = choose(results, higher_is_better=higher_is_better)
    edge = "; it lies on the edge of what was tried" if on_edge(best, results) else ""
    lines = [
        "# @package _global_",
        f"# Chosen on the validation split of {task} by `make tune OPT={optimizer} TASK={task} "
        f"TRIALS={len(results)}`:",
        f"# {len(results)} quasi-random learning rates, log-scaled from {space['low']} to "
        f"{space['high']} (three decades for every method),",
        f"# each trained once (seed {SEED}) for {budget.describe(config['budget'])}; best by "
        f"validation {metric}, then by validation loss{edge}.",
        "#",
        f"#   lr         validation_{metric}  validation_loss",
    ]
    for trial in sorted(results, key=lambda trial: trial.value):
        told = (
            f"{_digits(trial.metric):<{len(metric) + 11}}  {trial.loss:.5f}"
            if trial.metric is not None and trial.loss is not None
            else trial.status
        )
        lines.append(f"#   {trial.value:<9.3g}  {told}{'  <- chosen' if trial is best else ''}")
    lines += ["ruleset: tuned", "optimizer:", f"  lr: {best.value}"]
    return "\n".join(lines) + "\n"


def _digits(value: float) -> str:
    """Four decimals, but no page of them where a method blew up and its perplexity with it."""
    return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.3e}"


def main() -> None:
    """Tune every pair of the optimizers and tasks that were asked for."""
    with report_user_errors():
        arguments = commandline.normalise(sys.argv[1:])
        given = dict(argument.partition("=")[::2] for argument in arguments)
        missing = [key for key in ("optimizer", "task") if not given.get(key)]
        if missing:
            raise UserError(f"Missing argument: {missing[0]}. Give it as {missing[0]}=<names>.")
        trials = given.get("trials", str(TRIALS))
        if not trials.isdecimal() or int(trials) < 1:
            raise UserError(f"Invalid trials: {trials!r}. Must be a whole number >= 1.")
        others = [item for item in arguments if item.partition("=")[0] not in _OWN_KEYS]
        for task in given["task"].split(","):
            for optimizer in given["optimizer"].split(","):
                print(f"tuned: {tune(optimizer, task, int(trials), others)}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
