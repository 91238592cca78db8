"""The benchmarks' command line: `python -m experiments.bench adafisher --models resnet18`."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.bench import adafisher, asdl, data, suite
from experiments.engine.compute import DEVICES, pick_device
from experiments.engine.machine import describe_machine
from experiments.errors import UserError, report_user_errors

# Each part has `configure(parser)` for its own options and `run(options, device)`, a generator of
# results as plain data.
PARTS = {"adafisher": adafisher, "methods": suite, "data": data, "asdl": asdl}
PROGRAM = "python -m experiments.bench"


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, print and write; without a part, all of them."""
    first = argparse.ArgumentParser(prog=PROGRAM, add_help=False, allow_abbrev=False)
    help_of_part = f"one of {', '.join(PARTS)}; it stands before its own options [all]"
    first.add_argument("part", nargs="?", help=help_of_part)
    first.add_argument("--quick", action="store_true", help="the smallest sizes, a few steps")
    first.add_argument("--device", default="auto", choices=DEVICES, help="[auto]")
    first.add_argument("--threads", type=int, help="threads of the CPU; default: torch's")
    first.add_argument("--out", type=Path, default=Path("out"), help="folder of bench/ [out]")
    shared, _ = first.parse_known_args(arguments)
    if shared.part is not None and shared.part not in PARTS:
        known = ", ".join(PARTS)
        raise UserError(
            f"Unknown part: {shared.part!r}. Must be one of: {known}; options of a part follow it."
        )
    if shared.part is None:  # the options of one part mean nothing to the others
        _parser(first, __doc__).parse_args(arguments)
    for name in [shared.part] if shared.part else PARTS:
        parser = _parser(first, PARTS[name].__doc__)
        PARTS[name].configure(parser)
        measure(name, parser.parse_args(arguments))


def _parser(first: argparse.ArgumentParser, text: str | None) -> argparse.ArgumentParser:
    line = (text or "").splitlines()[0]
    return argparse.ArgumentParser(prog=PROGRAM, description=line, parents=[first])


def measure(name: str, options: argparse.Namespace) -> None:
    """Run one part, and write what it gives after each result, so that none is lost."""
    device = pick_device(options.device)
    if options.threads is not None:
        if options.threads < 1:
            raise UserError(f"Invalid --threads: {options.threads}. Must be >= 1.")
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


if __name__ == "__main__":
    with report_user_errors():
        main()
