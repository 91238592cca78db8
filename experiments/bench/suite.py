"""What every method costs beside AdamW: `python -m experiments bench part=methods models=resnet18`.

A step is timed as `budget=match_seconds` times it (``experiments.timing.steady``), so that what is
known of a setting on this machine is not measured again: it lies below `runs_dir`. Memory is that
of the tensors, over a whole period where a method refreshes something every few steps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from experiments.bench.options import BenchOptions
from experiments.bench.problem import Contender, Problem, peak_bytes
from experiments.config import commandline, compose
from experiments.config.run_config import RunConfig
from experiments.config.sections import MethodSection
from experiments.engine.build import build_model, build_optimizer, build_task
from experiments.errors import UserError
from experiments.records.calibration import Calibration
from experiments.timing import calibration, calibration_key

REFERENCE = "adamw"
LONGEST = 10  # steps of a period over which memory is looked at
MODELS = {
    "resnet18": ("task=generated_images", "task.train_images=512", "task.validation_fraction=0"),
    "gpt_char": (
        *("task=tinyshakespeare", "model.layers=4", "model.heads=4", "model.width=128"),
        *("model.mlp_width=512", "model.tied_head=true"),
    ),
}
"""Settings by the names of their models: a task, which brings the model, and its size."""
BATCHES = {"cpu": {"resnet18": 32, "gpt_char": 16}, "cuda": {"resnet18": 128, "gpt_char": 64}}

Row = dict[str, Any]


@dataclass(frozen=True)
class SuiteBench(BenchOptions):
    """What is measured of all methods.

    Attributes:
        models: Names.
        methods: Names in ``conf/optimizer``; null: all.
        skip: Methods to leave out.
        runs_dir: Below it lies what is known of the machine.
    """

    models: tuple[str, ...] = tuple(MODELS)
    methods: tuple[str, ...] | None = None
    skip: tuple[str, ...] = ()
    runs_dir: Path = Path("runs")


OPTIONS = SuiteBench


def run(options: SuiteBench, device: torch.device) -> Iterator[Row]:
    """Measure every method on every model.

    Raises:
        UserError: If an option is out of range.
    """
    known = commandline.choices("optimizer")
    chosen = names("methods", options.methods or known, known)
    skipped = names("skip", options.skip, known)
    batches = BATCHES["cuda" if device.type == "cuda" else "cpu"]
    for model in names("models", options.models, tuple(MODELS)):
        batch = 2 if options.quick else batches[model]
        configs = [
            config_of(model, name, batch=batch, device=device, threads=options.threads)
            for name in chosen
            if name not in skipped
        ]
        if configs:
            yield from _measure(model, configs, device, options.runs_dir)


def config_of(
    model: str, method: str, *, batch: int, device: torch.device, threads: int | None
) -> RunConfig:
    """Compose the config of a method in one of the settings."""
    config = compose.composed(
        [
            *(*MODELS[model], f"optimizer={method}", f"task.batch_size={batch}"),
            *("budget=match_seconds", f"budget.match_seconds={REFERENCE}", "tracking=none"),
            f"device={device.type}",
        ]
    )
    return config.having(threads=threads or torch.get_num_threads())


def problem_of(config: RunConfig, device: torch.device) -> Problem:
    """Make the model of a config, with random weights, and the first batch of its task."""
    task = build_task(config)
    torch.manual_seed(0)
    batch = next(task.train.batches(config.task.batching.batch_size, seed=0))
    inputs, targets = (part.to(device) for part in batch)
    return Problem(config.model.name, build_model(config.model, task).to(device), inputs, targets)


def memory_of(contest: Problem, method: MethodSection) -> tuple[int, int]:
    """Bytes of a method's state, and its highest memory over a period or around a refresh."""
    if method.refresh_key and method.refresh_period > LONGEST:
        method = method.having(**{method.refresh_key: 1})
    maker = partial(build_optimizer, method)
    contender = Contender(contest, maker, method.needs)
    for _ in range(2):
        contender.step()
    steps = method.refresh_period + 1
    return contender.state_bytes, peak_bytes(contest, maker, method.needs, steps=steps)


def _measure(
    model: str, configs: Sequence[RunConfig], device: torch.device, runs_dir: Path
) -> Iterator[Row]:
    """Print a row for each method, and give what was measured."""
    batch = configs[0].task.batching.batch_size
    print(
        f"\n{model}, batch {batch}: a training step as a ratio to {REFERENCE}'s in the same "
        f"rounds, on {device.type} with {configs[0].threads} threads\n"
        f"  {'method':20}{'wall time':>11}{'spread':>9}{'noise':>9}{'cpu time':>10}"
        f"{'state':>8}{'peak':>8}{'period':>8}"
    )
    contest = problem_of(configs[0], device)
    standard = memory_of(contest, calibration_key.reference_section(configs[0]))
    measured = calibration.measure(configs, runs_dir)
    for method, found in zip([config.optimizer for config in configs], measured, strict=True):
        result: Row = {"model": model, "batch": batch, "method": method.name}
        if not isinstance(found, Calibration):
            print(f"  {method.name:20}  left out: {found}", flush=True)
            yield result | {"left_out": str(found)}
            continue
        state, peak = (
            own / other for own, other in zip(memory_of(contest, method), standard, strict=True)
        )
        print(
            f"  {found.method:20}{found.ratio:11.2f}{f'{found.spread_percent:.1f} %':>9}"
            f"{f'{found.noise_percent:.1f} %':>9}{found.cpu_ratio:10.2f}"
            f"{state:8.2f}{peak:8.2f}{method.refresh_period:8}",
            flush=True,
        )
        yield result | {
            **{"period": method.refresh_period, "step": found.summary()},
            **{"state_bytes": state, "peak_bytes": peak},
        }


def names(option: str, given: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    """Check names that were given; returns them.

    Raises:
        UserError: If one is not known.
    """
    for name in given:
        if name not in known:
            raise UserError(f"Invalid {option}: {name!r}. Must be of {', '.join(known)}.")
    return given
