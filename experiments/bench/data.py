"""What reading data costs the training loop: `python -m experiments.bench data --batch 128`.

The loop of the suite trains ResNet-18 on images of the shape of CIFAR-10, in turn from four
sources: the suite's split with crop, flip and Cutout; one batch that is there already; and a plain
`DataLoader` with torchvision's transforms, without and with workers. The pixels are random, since
no time depends on them. Times of one round are compared with each other only.
"""

import argparse
import contextlib
import dataclasses
import resource
import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from experiments.bench import sources
from experiments.bench.sources import Pictures, PlainLoader, RepeatedBatch
from experiments.config import compose
from experiments.engine.build import build
from experiments.engine.built import Built
from experiments.engine.loop import StoppedError, Trainer
from experiments.errors import UserError
from experiments.tasks.images import ImageSplit
from experiments.tasks.task import Split

OURS, PRELOADED, PLAIN = "suite", "one batch", "DataLoader, {} workers"
WORKERS = (0, 2)
WARM_UP = 1
"""Steps of each turn before the clock starts: they begin the pass and start the workers."""


@dataclasses.dataclass
class Turns:
    """What was measured of one source, a list with one value a turn.

    Attributes:
        name: Name in the table.
        wall: Seconds a step.
        cpu: Processor seconds a step, workers included.
        begin: Seconds until the first step was done.
    """

    name: str
    wall: list[float] = dataclasses.field(default_factory=list)
    cpu: list[float] = dataclasses.field(default_factory=list)
    begin: list[float] = dataclasses.field(default_factory=list)


def train(built: Built, split: Split, turns: Turns, *, steps: int, seed: int) -> None:
    """Let the suite's loop take ``steps`` steps from ``split``, and note what they took."""
    marks: list[tuple[float, float]] = []
    last = WARM_UP + steps

    def now() -> tuple[float, float]:
        if built.device.type == "cuda":
            torch.cuda.synchronize(built.device)
        return time.perf_counter(), time.process_time()

    trainer = Trainer(
        dataclasses.replace(built, task=dataclasses.replace(built.task, train=split)),
        seed=seed,
        on_step=lambda trainer, loss: marks.append(now()),
        stop_requested=lambda: len(marks) == last,
    )
    children = _children_seconds()
    begin = now()
    with contextlib.suppress(StoppedError):
        list(trainer.run())
    children = _children_seconds() - children  # known once the workers have ended
    (wall_0, cpu_0), (wall_1, cpu_1) = marks[WARM_UP - 1], marks[-1]
    turns.begin.append(wall_0 - begin[0])
    turns.wall.append((wall_1 - wall_0) / steps)
    turns.cpu.append((cpu_1 - cpu_0) / steps + children / last)


def compare(built: Built, task: Mapping[str, Any], *, rounds: int, steps: int) -> dict[str, Any]:
    """Measure all sources in turn, print the table and return everything that was measured."""
    own, device, batch = built.task.train, built.device, built.batch_size
    assert isinstance(own, ImageSplit)
    pictures, pin = Pictures(own, task), device.type == "cuda"
    splits: dict[str, Split] = {PRELOADED: RepeatedBatch(own, batch, device), OURS: own}
    for workers in WORKERS:
        plain = PlainLoader(pictures, len(own), workers=workers, pin=pin)
        splits[PLAIN.format(workers)] = plain
    measured = {name: Turns(name) for name in splits}
    names = list(splits)
    for number in range(-1, rounds):  # the first round allocates, and is not counted
        first = number % len(names)
        for name in names[first:] + names[:first]:
            turns = measured[name] if number >= 0 else Turns(name)
            train(built, splits[name], turns, steps=steps, seed=number)
    print(
        f"\ntraining loop on {sources.COUNT:,} random images of {sources.SIDE}x{sources.SIDE}, "
        f"batch {batch}, {device}: speed as a share of that on one batch\n"
        f"  that is there already, in the same round, median [quartiles] of {rounds} rounds of "
        f"{steps} steps\n"
        f"  {'source':24}{'images/s':>10}{'wall time':>24}{'CPU time':>24}{'begin of a pass':>18}"
    )
    ratios: dict[str, dict[str, dict[str, float]]] = {}
    for name, turns in measured.items():
        base = measured[PRELOADED]
        ratios[name] = {
            clock: _spread(getattr(base, clock), getattr(turns, clock)) for clock in ("wall", "cpu")
        }
        cells = "".join(f"{_cell(ratios[name][clock]):>24}" for clock in ("wall", "cpu"))
        speed, begin = batch / statistics.median(turns.wall), statistics.median(turns.begin)
        print(f"  {name:24}{speed:10.1f}{cells}{begin:16.2f} s")
    return {
        "batch": batch,
        "ratios_to_one_batch": ratios,
        "measured": [dataclasses.asdict(turns) for turns in measured.values()],
    }


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of this part."""
    parser.add_argument("--model", default="resnet18", help="name in conf/model [resnet18]")
    parser.add_argument("--optimizer", default="sgd", help="name in conf/optimizer [sgd]")
    parser.add_argument("--batch", type=int, help="images a step [256; on a CPU 32]")
    parser.add_argument("--steps", type=int, help="steps of each turn [100; on a CPU 4]")
    parser.add_argument("--rounds", type=int, default=8, help="turns of each source [8]")


def run(options: argparse.Namespace, device: torch.device) -> Iterator[dict[str, Any]]:
    """Measure one model at one batch size.

    Raises:
        UserError: If an option is out of range.
    """
    slow = device.type != "cuda"
    batch = (32 if slow else 256) if options.batch is None else options.batch
    steps = (4 if slow else 100) if options.steps is None else options.steps
    rounds = options.rounds
    if options.quick:
        batch, steps, rounds = 2, 2, 2
    for key, value, least in (("batch", batch, 1), ("steps", steps, 1), ("rounds", rounds, 2)):
        if value < least:
            raise UserError(f"Invalid --{key}: {value}. Must be >= {least}.")
    if (WARM_UP + steps) * batch > sources.COUNT:
        raise UserError(f"Invalid --steps: {steps}. A pass has {sources.COUNT // batch - WARM_UP}.")
    config = compose.composed(
        [
            *("task=cifar10_jpeg", f"model={options.model}", f"optimizer={options.optimizer}"),
            *("schedule=constant", "tracking=none", f"device={device.type}"),
            *(f"task.batch_size={batch}", f"task._target_={sources.__name__}.make_task"),
        ]
    )
    built = build(config)
    built.task.train.to(device)
    yield compare(built, config.task.arguments, rounds=rounds, steps=steps)


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _spread(base: list[float], values: list[float]) -> dict[str, float]:
    pairs = [a / b for a, b in zip(base, values, strict=True)]
    low, median, high = statistics.quantiles(pairs, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def _cell(spread: dict[str, float]) -> str:
    return f"{spread['median']:.3f} [{spread['low']:.3f}, {spread['high']:.3f}]"
