"""Measures the methods of a setting: `python -m experiments.calibration_child`, jobs on stdin.

The process ends after it, so that neither its memory nor its random streams touch a run. It tells
the calibrations on standard error, and on standard output why it could not measure a method.
"""

import contextlib
import dataclasses
import fcntl
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from experiments import calibration, calibration_rounds, commandline
from experiments.build import build, build_task
from experiments.calibration_record import Calibration, read
from experiments.errors import UserError
from experiments.loop import Trainer
from experiments.store import write_atomic
from experiments.tasks.task import Task

Config = Mapping[str, Any]
REFRESH_KEYS = ("interval", "update_interval", "precondition_frequency")
"""How methods call the number of steps between two refreshes of their curvature."""

_LR_FACTOR = 1e-3
"""Of the learning rate: what no run survives must not end a measurement, and costs the same."""


def main() -> int:
    """Measure what the cache lacks; returns the exit code."""
    request = json.load(sys.stdin)
    torch.set_num_threads(request["jobs"][0][0]["threads"])
    cache = Path(request["runs_dir"]) / calibration.CACHE_DIR
    cache.mkdir(parents=True, exist_ok=True)
    by_reference: dict[str, list[tuple[Config, Config]]] = {}
    for config, reference in request["jobs"]:
        by_reference.setdefault(json.dumps(reference, sort_keys=True), []).append(
            (config, reference)
        )
    try:
        with _turn(cache):
            for jobs in by_reference.values():
                _measure([config for config, _ in jobs], jobs[0][1], cache)
    except UserError as error:
        print(" ".join(str(error).split()).removesuffix("."), flush=True)
        return 2
    return 0


def cycle(section: Config) -> int:
    """Steps from one refresh of a method's curvature to the next; 1 without such a key."""
    found = [section[key] for key in REFRESH_KEYS if isinstance(section.get(key), int)]
    return max(found, default=1)


def published_ratio(config: Config) -> float | None:
    """The cost of a step in steps of AdaFisher that the paper's epochs imply."""
    model = yaml.safe_load(
        (commandline.CONF / "model" / f"{config['model']['name']}.yaml").read_text()
    )
    family = next(
        choice["override /family@_global_.family"]
        for choice in model["defaults"]
        if "override /family@_global_.family" in choice
    )
    table = yaml.safe_load((commandline.CONF / "paper" / "seconds_per_step.yaml").read_text())
    ratio: float | None = table[family].get(config["optimizer"]["published_as"])
    return ratio


@contextlib.contextmanager
def _turn(cache: Path) -> Iterator[None]:
    """Wait until no other process measures: two at once would measure each other."""
    with (cache / ".lock").open("w") as handle:
        fcntl.flock(handle.fileno(), fcntl.LOCK_EX)
        yield


def _measure(configs: list[Config], reference: Config, cache: Path) -> None:
    facts = calibration.machine(configs[0])
    wanted: dict[str, Config] = {}
    for config in configs:
        key = calibration.key(config, reference, facts)
        if read(cache / f"{key}.json") is None:
            wanted.setdefault(key, config)
    if not wanted:
        return
    standard = {**configs[0], "optimizer": reference}
    standard_key = calibration.key(standard, reference, facts)
    methods = {standard_key: standard} | wanted
    task = build_task(standard)
    _say(f"calibration: {len(methods)} methods on {standard['task']['name']} take turns")
    steppers, failures = {}, {}

    def failed(key: str, error: Exception) -> None:
        failures[key] = (str(error).strip() or type(error).__name__).splitlines()[0]

    for key, config in methods.items():
        try:
            steppers[key] = _stepper(config, task)
        except Exception as error:
            failed(key, error)
    cycles = {key: cycle(config["optimizer"]) for key, config in methods.items()}
    times = calibration_rounds.run(steppers, cycles, failed=failed)
    if standard_key not in times:
        raise UserError(f"{reference['name']}, the reference: {failures[standard_key]}")
    own = calibration_rounds.cost(times[standard_key], times[standard_key])
    found = []
    for key, timed in times.items():
        cost = calibration_rounds.cost(timed, times[standard_key])
        found.append(
            Calibration(
                method=methods[key]["optimizer"]["name"],
                reference=reference["name"],
                seconds_per_step=cost.seconds,
                reference_seconds_per_step=own.seconds,
                ratio=cost.ratio,
                spread_percent=cost.spread_percent,
                profile=tuple(cost.profile),
                reference_profile=tuple(own.profile),
                drift_percent=calibration_rounds.drift_percent(times[standard_key]),
                rounds=len(timed.rounds),
                steps_per_epoch=task.train.num_batches(standard["task"]["batch_size"]),
                published_ratio=published_ratio(methods[key]),
                setting=calibration.setting(methods[key]),
                machine=dict(facts),
            )
        )
        write_atomic(cache / f"{key}.json", found[-1].to_json())
    _tell(found)
    if failures:
        reasons = [f"{methods[key]['optimizer']['name']}: {why}" for key, why in failures.items()]
        raise UserError("; ".join(reasons))


def _stepper(config: Config, task: Task) -> Callable[[], float]:
    """Steps as a run takes them; each call returns the seconds of one."""
    plain = {
        **config,
        "budget": {"steps": 1},
        "schedule": {
            "_target_": "experiments.schedule.constant",
            "_partial_": True,
            "name": "constant",
        },
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the run itself records them
        built = build(plain, task=task)
    built = dataclasses.replace(built, schedule=lambda progress: _LR_FACTOR)
    trainer = Trainer(built, seed=config["seed"])
    steps = trainer.steps()

    def step() -> float:
        before = trainer.counters.train_seconds
        next(steps)
        return trainer.counters.train_seconds - before

    return step


def _tell(found: list[Calibration]) -> None:
    first = found[0]
    where = ", ".join(f"{first.machine[k]}" for k in ("device", "processor"))
    _say(
        f"{first.setting['task']} {first.setting['model']}, batch {first.setting['batch_size']}, "
        f"{where}, {first.machine['threads']} threads: a step of {first.reference} takes "
        f"{first.reference_seconds_per_step:.4g} s (varied by {first.drift_percent:.1f} %)"
    )
    _say(f"  {'method':<22}{'steps of ' + first.reference:>22}{'spread':>10}{'paper':>8}")
    for one in sorted(found, key=lambda one: one.ratio):
        paper = "-" if one.published_ratio is None else f"{one.published_ratio:g}"
        spread = f"{one.spread_percent:.1f} %"
        _say(f"  {one.method:<22}{one.ratio:>22.3f}{spread:>10}{paper:>8}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
