"""Tuning: as many trials for every method, over a space of equal width, on validation only.

`python -m experiments.tune optimizer=adafisher,adam task=digits trials=8` writes the best trial of
each pair to conf/tuned/<task>/<name>.yaml, with the ledger of all trials in the file's header and
the effort behind it as `tuning:`. Further: `seeds=1000,1001` (a trial is their mean),
`sampler=sobol|tpe`, `startup=8` (quasi-random trials before tpe proposes any),
`pruner=none|median|halving`, `retry=true`, and any override of a run.
Trials are runs of a sweep: they resume, they are isolated, and a diverged one is a result.
"""

import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from experiments import commandline, identity, preflight
from experiments.errors import UserError, report_user_errors
from experiments.outcome import EXIT_CODES
from experiments.store import write_atomic
from experiments.tuning import ledger, rungs, space, study
from experiments.tuning.sweep import TrialSweep

SEED = 1000
"""Seed of every trial, apart from the seeds that results are reported for."""

TRIALS = 8
TRIALS_DIR = ".tuning"
_OWN_KEYS = ("optimizer", "task", "trials", "seeds", "sampler", "startup", "pruner")


@dataclass(frozen=True)
class Options:
    """What is asked of each study, apart from the method and the task."""

    trials: int = TRIALS
    seeds: tuple[int, ...] = (SEED,)
    sampler: str = "sobol"
    startup: int = TRIALS
    pruner: str = "none"


def tune(optimizer: str, task: str, options: Options, overrides: Sequence[str]) -> Path:
    """Run the trials of one method on one task and write the best.

    Args:
        optimizer: Name in conf/optimizer.
        task: Name in conf/task.
        options: What is tried and how.
        overrides: Further overrides, the same for every trial.

    Returns:
        The file that was written.

    Raises:
        UserError: If the sweep of the trials refuses its input, or no trial has a value.
        KeyboardInterrupt: If it was interrupted; asked again, it goes on where it was.
    """
    base = commandline.normalise(
        [
            "tracking=none",  # unless somebody asks for it
            *overrides,
            *("ruleset=default", "fail_fast=false"),
            *(f"optimizer={optimizer}", f"task={task}"),
        ]
    )
    config = preflight.composed([item for item in base if not item.startswith("hydra")])
    if config["task"].get("validation_fraction") == 0:
        raise UserError(
            "Invalid task.validation_fraction: 0. Must be > 0: tuning never looks at the test set."
        )
    config["runs_dir"] = str(Path(config["runs_dir"]) / TRIALS_DIR)
    dimensions = space.parse(config["optimizer"])
    plan = study.Plan(
        dimensions,
        options.trials,
        options.sampler,
        options.startup,
        batch=_side_by_side(config, base),
        retry=config["retry"],
    )
    facts = [dimension.facts() | {"key": dimension.key} for dimension in dimensions]
    proposed = options.sampler
    if options.sampler == "tpe":
        proposed += f" after {options.startup} sobol"
    sweep = TrialSweep(config, base, options.seeds, about=(facts, proposed, options.pruner))
    cuts = rungs.budgets(options.pruner, config["budget"])
    trials = study.complete(
        sweep.folder, plan, lambda points: rungs.climb(points, cuts, sweep.evaluate)
    )
    effort = ledger.effort(
        config,
        trials,
        space=dimensions,
        seeds=options.seeds,
        sampler=proposed,
        pruner=options.pruner,
    )
    path = commandline.CONF / "tuned" / task / f"{optimizer}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = ledger.render(
        _command(optimizer, task, options, overrides), trials, effort, task=task, space=dimensions
    )
    write_atomic(path, text.encode())
    for line in ledger.warnings(task, optimizer, effort):
        print(line, file=sys.stderr, flush=True)
    return path


def _command(optimizer: str, task: str, options: Options, overrides: Sequence[str]) -> str:
    """The command that makes the same file again, wherever its runs are."""
    default = Options()
    further = [
        f"{key}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
        for key in ("seeds", "sampler", "startup", "pruner")
        if (value := getattr(options, key)) != getattr(default, key)
    ]
    elsewhere = ("hydra", "launcher", *identity.NOT_HASHED)
    further += [item for item in overrides if not item.startswith(elsewhere)]
    arguments = f" ARGS='{' '.join(further)}'" if further else ""
    return f"make tune OPT={optimizer} TASK={task} TRIALS={options.trials}{arguments}"


def _side_by_side(config: Mapping[str, Any], overrides: Sequence[str]) -> int:
    """How many runs the launcher has at once: as many trials are proposed together."""
    typed = dict(item.partition("=")[::2] for item in overrides)
    workers = typed.get("hydra.launcher.n_jobs", "1")
    return max(1, config["jobs"], int(workers) if workers.isdecimal() else 1)


def options_of(given: Mapping[str, str]) -> Options:
    """Read what was typed.

    Raises:
        UserError: If a value is none that is allowed.
    """
    seeds = tuple(_whole("seeds", item, least=0) for item in _listed(given.get("seeds", str(SEED))))
    if len(set(seeds)) < len(seeds):
        raise UserError(f"Invalid seeds: {given['seeds']!r}. Each may stand there once.")
    options = Options(
        trials=_whole("trials", given.get("trials", str(TRIALS)), least=1),
        seeds=seeds,
        sampler=_choice("sampler", given.get("sampler", "sobol"), study.SAMPLERS),
        startup=_whole("startup", given.get("startup", str(TRIALS)), least=0),
        pruner=_choice("pruner", given.get("pruner", "none"), tuple(rungs.PRUNERS)),
    )
    if options.sampler == "tpe" and options.pruner != "none":
        raise UserError(
            f"Invalid pruner: {options.pruner!r}. Must be none with sampler=tpe, which proposes "
            "trials a few at a time: there is no cohort to be the better half of."
        )
    return options


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.strip("[]").split(",")]


def _whole(key: str, text: str, *, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise UserError(f"Invalid {key}: {text!r}. Must be a whole number >= {least}.")
    return int(text)


def _choice(key: str, text: str, allowed: Sequence[str]) -> str:
    if text not in allowed:
        raise UserError(f"Invalid {key}: {text!r}. Must be one of: {', '.join(allowed)}.")
    return text


def _check_overrides(overrides: Sequence[str]) -> None:
    """Refuse what would make a trial other than the run that its file is for."""
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key == "seed":
            raise UserError(f"Invalid override: {override}. The seeds of the trials are seeds=.")
        if key == "experiment":
            raise UserError(f"Invalid override: {override}. Name what it sets: task=, budget=, ...")
        if key.startswith("optimizer.") and not key.startswith("optimizer.search."):
            name = key.removeprefix("optimizer.")
            raise UserError(
                f"Invalid override: {override}. The tuned file would not hold it. Search it: "
                f"'+optimizer.search.{name}={{low: ..., high: ..., scale: log}}'."
            )


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Tune every pair of the optimizers and tasks that were asked for."""
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, _interrupt)
    with report_user_errors():
        arguments = commandline.normalise(sys.argv[1:])
        given = dict(argument.partition("=")[::2] for argument in arguments)
        missing = [key for key in ("optimizer", "task") if not given.get(key)]
        if missing:
            raise UserError(f"Missing argument: {missing[0]}. Give it as {missing[0]}=<names>.")
        options = options_of(given)
        others = [item for item in arguments if item.partition("=")[0] not in _OWN_KEYS]
        _check_overrides(others)
        for task in given["task"].split(","):
            for optimizer in given["optimizer"].split(","):
                print(f"tuned: {tune(optimizer, task, options, others)}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(EXIT_CODES["interrupted"])
