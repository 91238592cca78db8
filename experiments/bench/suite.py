"""What every method costs beside AdamW: `python -m experiments bench part=methods models=resnet18`.

Each method trains in turn with an AdamW of its own, as conf/optimizer has both. A method that
refreshes something every few steps is measured over whole periods, so that the mean is what a step
costs in the long run; where a period is longer than the measurement, the step without a refresh and
the step with one are measured apart, and the refresh is charged by its share.
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from experiments.bench.adafisher import method_of
from experiments.bench.adafisher import problem as large_problem
from experiments.bench.interleaved import Contender, Problem, first_step, measure
from experiments.bench.options import BenchOptions
from experiments.config import commandline
from experiments.config.sections import MethodSection
from experiments.engine.build import build_optimizer
from experiments.errors import UserError
from experiments.models.gpt import GPT

REFERENCE = "adamw"
LR = 1e-6  # many steps on one batch
# Hyperparameters that say how many steps lie between two refreshes.
PERIODS = ("interval", "update_interval", "precondition_frequency")
NEVER = 1_000_000
MODELS = ("resnet18", "gpt_char")
BATCHES = {"cpu": {"resnet18": 32, "gpt_char": 16}, "cuda": {"resnet18": 128, "gpt_char": 64}}
CLOCKS = ("cpu", "wall")

Row = dict[str, Any]


def problem(model: str, batch: int, device: torch.device) -> Problem:
    """Make a model with random weights and a random batch, the same in every run."""
    if model != "gpt_char":
        return large_problem(model, batch, device)
    torch.manual_seed(0)
    characters, context = 65, 64  # of tiny Shakespeare; 0.81 million parameters
    module = GPT(
        vocab_size=characters,
        context=context,
        layers=4,
        heads=4,
        width=128,
        mlp_width=512,
        norm="pre",
        dropout=0.0,
        tied_head=True,
    )
    tokens = torch.randint(characters, (batch, context + 1)).to(device)
    return Problem(model, module.to(device), tokens[:, :-1], tokens[:, 1:])


def compare(
    contest: Problem, method: MethodSection, reference: MethodSection, *, steps: int
) -> Row:
    """Measure a method beside the reference.

    Args:
        contest: What both train.
        method: The method.
        reference: What it is measured beside.
        steps: Training steps at least; whole periods are measured.

    Returns:
        Ratios to the reference: of the time ``mean`` (in the long run), ``median`` and ``slowest``
        by clock, of ``state_bytes`` and ``peak_bytes``; and everything that was measured.
    """
    key = next((key for key in PERIODS if key in method.arguments), None)
    period = 1 if key is None else int(method.arguments[key])
    if period <= steps:
        entrants = {"method": method}
        steps = -(-steps // period) * period
    else:
        assert key is not None
        entrants = {
            "method": method.having(**{key: NEVER}),
            "refreshing": method.having(**{key: 1}),
        }
    everyone = {"reference": reference, **entrants}
    contenders = measure(
        contest,
        {name: partial(build_optimizer, s) for name, s in everyone.items()},
        steps=steps,
        calls=0,
        needs={name: s.needs for name, s in everyone.items()},
        peak_steps=min(period, steps),
    )
    return {
        "method": method.name,
        "period": period,
        "steps": steps,
        "ratios": {clock: ratios(contenders, clock, period=period) for clock in CLOCKS},
        **{
            key: max(getattr(c, key) for c in contenders[1:]) / getattr(contenders[0], key)
            for key in ("state_bytes", "peak_bytes")
        },
        "measured": [
            {k: v for k, v in vars(c).items() if k not in ("model", "optimizer", "needs", "alone")}
            for c in contenders
        ],
    }


def ratios(contenders: Sequence[Contender], clock: str, *, period: int) -> dict[str, float]:
    """Ratios of a whole training step to that of the reference in the same rounds.

    Args:
        contenders: The reference, the method, and where the method was measured without a refresh
            the same refreshing in every step.
        clock: ``cpu`` or ``wall``.
        period: Steps from one refresh to the next.
    """
    reference, method, *refreshing = [
        [getattr(seconds, clock) for seconds in c.whole] for c in contenders
    ]
    pairs = [a / b for a, b in zip(method, reference, strict=True)]
    mean, slowest = sum(method) / sum(reference), max(pairs)
    for times in refreshing:
        mean += (sum(times) / sum(reference) - mean) / period
        slowest = statistics.median(a / b for a, b in zip(times, reference, strict=True))
    return {"mean": mean, "median": statistics.median(pairs), "slowest": slowest}


@dataclass(frozen=True)
class SuiteBench(BenchOptions):
    """What is measured of all methods.

    Attributes:
        models: Names.
        methods: Names in ``conf/optimizer``; null: all.
        skip: Methods to leave out.
        steps: Training steps at least.
        limit: A method whose first step takes more seconds is left out.
    """

    models: tuple[str, ...] = tuple(MODELS)
    methods: tuple[str, ...] | None = None
    skip: tuple[str, ...] = ()
    steps: int = 10
    limit: float = 20.0


OPTIONS = SuiteBench


def run(options: SuiteBench, device: torch.device) -> Iterator[Row]:
    """Measure every method on every model.

    Raises:
        UserError: If an option is out of range.
    """
    steps = 3 if options.quick else options.steps
    if steps < 2:
        raise UserError(f"Invalid steps: {steps}. Must be >= 2.")
    known = commandline.choices("optimizer")
    chosen = _names("methods", options.methods or known, known)
    skipped = _names("skip", options.skip, known)
    batches = BATCHES["cuda" if device.type == "cuda" else "cpu"]
    for model in _names("models", options.models, MODELS):
        contest = problem(model, 2 if options.quick else batches[model], device)
        print(
            f"\n{model}, batch {len(contest.inputs)}: a training step as a ratio to {REFERENCE}'s "
            f"in the same rounds, on {device.type} with {torch.get_num_threads()} threads"
        )
        print(f"  {'':20}{'cpu time':>25}{'wall time':>26}")
        print(f"  {'method':20}" + 2 * "    mean  median slowest  " + "  state    peak  period")
        for name in chosen:
            if name in skipped:
                continue
            result = {"model": model, "batch": len(contest.inputs), "method": name}
            method = _method(name)
            first = first_step(contest, partial(build_optimizer, method), method.needs)
            if first.wall > options.limit:
                reason = (
                    f"its first step took {first.wall:.0f} s, more than limit={options.limit:g}"
                )
                print(f"  {name:20}  left out: {reason}", flush=True)
                yield result | {"left_out": reason, "first_step": first}
                continue
            result |= compare(contest, method, _method(REFERENCE), steps=steps)
            print(f"  {name:20}{_line(result)}", flush=True)
            yield result


def _method(name: str) -> MethodSection:
    return method_of(name).having(lr=LR)


def _line(result: Row) -> str:
    cells = ""
    for clock in CLOCKS:
        row = result["ratios"][clock]
        cells += "".join(f"{row[key]:8.2f}" for key in ("mean", "median", "slowest")) + "  "
    return f"{cells}{result['state_bytes']:7.2f} {result['peak_bytes']:7.2f}{result['period']:8}"


def _names(option: str, names: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    for name in names:
        if name not in known:
            raise UserError(f"Invalid {option}: {name!r}. Must be of {', '.join(known)}.")
    return names
