"""The benchmarks: `python -m experiments bench part=adafisher models=resnet18`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.bench import adafisher, data, forms, suite
from experiments.bench.options import BenchOptions
from experiments.config import arguments
from experiments.engine.compute import pick_device
from experiments.engine.machine import describe_machine
from experiments.errors import UserError

# Each part has `OPTIONS`, a class of its own options and all that every part has, and
# `run(options, device)`, a generator of results as plain data.
PARTS = {"adafisher": adafisher, "methods": suite, "forms": forms, "data": data}


def main(words: Sequence[str]) -> int:
    """Measure, print and write; without a part, all of them. Returns the exit code."""
    shared, others = arguments.parse(words, BenchOptions, further=True)
    if shared.part is None and others:
        raise UserError(f"Missing value: part. {others[0]!r} is of one of: {', '.join(PARTS)}.")
    if shared.part is not None and shared.part not in PARTS:
        raise UserError(f"Unknown part: {shared.part!r}. Must be one of: {', '.join(PARTS)}.")
    for name in [shared.part] if shared.part else PARTS:
        options, _ = arguments.parse(words, PARTS[name].OPTIONS)
        measure(name, options)
    return 0


def measure(name: str, options: BenchOptions) -> None:
    """Run one part, and write what it gives after each result, so that none is lost."""
    device = pick_device(options.device)
    if options.threads is not None:
        if options.threads < 1:
            raise UserError(f"Invalid threads: {options.threads}. Must be >= 1.")
        torch.set_num_threads(options.threads)
    results: list[dict[str, Any]] = []
    for result in PARTS[name].run(options, device):
        results.append(result)
        write(options.out / "bench" / f"{name}.json", results, device)


def write(path: Path, results: list[dict[str, Any]], device: torch.device) -> None:
    """Write the results with the environment that they were measured in."""
    described = describe_machine(device)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"environment": described, "results": results}, indent=1) + "\n")
    print(f"  written: {path}")
