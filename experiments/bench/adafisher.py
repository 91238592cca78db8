"""What AdaFisher costs beside AdamW: `python -m experiments bench part=adafisher models=resnet18`.

Times are ratios to `torch.optim.AdamW(fused=True)` in the same round. A refresh every 100 steps is
the step without a refresh, plus a hundredth of what a refresh adds.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import nn

from experiments.bench.interleaved import Contender, Problem, Seconds, measure
from experiments.bench.options import BenchOptions
from experiments.config import refusals
from experiments.config.commandline import CONF
from experiments.config.sections import MethodSection
from experiments.engine.build import build_optimizer
from experiments.errors import UserError
from experiments.models import resnet
from experiments.models.gpt import GPT

Makers = dict[str, Callable[[nn.Module], torch.optim.Optimizer]]

REFERENCE, FOREACH = "adamw fused", "adamw foreach"
EVERY, RARELY, COMPILED = "refresh every step", "refresh every 100", "the same, fused=True"
LR = 1e-6  # standing gradients are stepped on many times
BATCHES = {  # by device: what an accelerator is for, and what a CPU does in seconds
    "cuda": {"resnet18": [128, 256], "vit_s16": [128], "gpt1_mini": [32]},
    "cpu": {"resnet18": [32], "vit_s16": [4], "gpt1_mini": [4]},
}
VOCABULARY, CONTEXT = 33278, 256  # of the wikitext2 task


def problem(model: str, batch: int, device: torch.device) -> Problem:
    """Make a model with random weights and a random batch, the same in every run."""
    torch.manual_seed(0)
    classes, shape = 10, (batch, 3, 32, 32)
    module: nn.Module
    if model == "resnet18":
        module = resnet.build(
            depth=18, stem="cifar", in_channels=3, num_classes=classes, image_size=32
        )
    elif model == "vit_s16":
        import timm

        classes, shape = 1000, (batch, 3, 224, 224)
        module = timm.create_model("vit_small_patch16_224", num_classes=classes)
    else:
        section = refusals.load(CONF / "model" / f"{model}.yaml")
        sizes = ("layers", "heads", "width", "mlp_width", "norm", "dropout", "tied_head")
        own = {key: section[key] for key in sizes}
        module = GPT(vocab_size=VOCABULARY, context=CONTEXT, **own)
        tokens = torch.randint(VOCABULARY, (batch, CONTEXT + 1))
        return _on(device, Problem(model, module, tokens[:, :-1], tokens[:, 1:]))
    targets = torch.randint(classes, (batch,))
    return _on(device, Problem(model, module, torch.randn(shape), targets))


def method_of(name: str) -> MethodSection:
    """Read the section of an optimizer from its YAML."""
    file = refusals.load(CONF / "optimizer" / f"{name}.yaml")
    # Some values refer to others of the section by their place in a whole config.
    whole: Any = OmegaConf.to_container(OmegaConf.create({"optimizer": file}), resolve=True)
    return MethodSection.of(whole["optimizer"])


def makers(*, fused: bool) -> Makers:
    """Make the contenders: AdamW twice, AdaFisherW refreshing every step and rarely."""
    section = method_of("adafisherw")

    def adafisher(**options: Any) -> Callable[[nn.Module], torch.optim.Optimizer]:
        return lambda model: build_optimizer(section.having(lr=LR, **options), model)

    decay = section.arguments["weight_decay"]
    made: Makers = {
        REFERENCE: lambda m: torch.optim.AdamW(m.parameters(), LR, weight_decay=decay, fused=True),
        FOREACH: lambda m: torch.optim.AdamW(m.parameters(), LR, weight_decay=decay, foreach=True),
        EVERY: adafisher(update_interval=1),
        RARELY: adafisher(update_interval=1_000_000),
    }
    return made | ({COMPILED: adafisher(update_interval=1_000_000, fused=True)} if fused else {})


def ratios(contenders: Sequence[Contender], clock: str) -> dict[str, dict[str, dict[str, float]]]:
    """Ratios to the reference, by contender and quantity, as median and quartiles over rounds.

    Args:
        contenders: What was measured; the first is the reference.
        clock: ``wall`` or ``cpu``.
    """
    by_name = {c.name: c for c in contenders}
    reference, result = contenders[0], {}
    for contender in contenders[1:]:
        times = {
            key: _times(getattr(contender, key), clock) for key in ("whole", "within", "alone")
        }
        if contender.name in (RARELY, COMPILED):
            for key in ("whole", "within"):
                refreshing = _times(getattr(by_name[EVERY], key), clock)
                pairs = zip(times[key], refreshing, strict=True)
                times[key] = [rare + (often - rare) / 100 for rare, often in pairs]
        result[contender.name] = {
            key: _spread(values, _times(getattr(reference, key), clock))
            for key, values in times.items()
        }
        for key in ("state_bytes", "peak_bytes"):
            exact = getattr(contender, key) / getattr(reference, key)
            result[contender.name][key] = {"median": exact, "low": exact, "high": exact}
    return result


def compare(contest: Problem, *, fused: bool, steps: int, calls: int) -> dict[str, Any]:
    """Measure one problem, print its table and return everything that was measured."""
    contenders = measure(contest, makers(fused=fused), steps=steps, calls=calls)
    compared = {clock: ratios(contenders, clock) for clock in ("wall", "cpu")}
    base = contenders[0]
    print(
        f"\n{contest.name}, batch {len(contest.inputs)}: ratios to {REFERENCE} in the same round, "
        f"median [quartiles] of {steps} training steps and {calls} calls\n"
        f"  {REFERENCE}: whole step {_typical(base.whole)}, step() {_typical(base.alone)}, "
        f"state {base.state_bytes / 2**20:.1f} MiB, peak {base.peak_bytes / 2**20:.1f} MiB"
    )
    for clock, table in compared.items():
        print(f"  {clock + ' time':20}" + "".join(f"{head:>23}" for head in HEADS.values()))
        for name, row in table.items():
            print(f"  {name:20}" + "".join(f"{_cell(row[key]):>23}" for key in HEADS))
    return {
        "model": contest.name,
        "batch": len(contest.inputs),
        "ratios": compared,
        "measured": [
            {k: v for k, v in vars(c).items() if k not in ("model", "optimizer", "needs")}
            for c in contenders
        ],
    }


HEADS = {
    "whole": "whole step",
    "within": "step() in training",
    "alone": "step() alone",
    "state_bytes": "state bytes",
    "peak_bytes": "peak bytes",
}


@dataclass(frozen=True)
class AdaFisherBench(BenchOptions):
    """What is measured of AdaFisher.

    Attributes:
        models: Names.
        batches: Batch sizes; null: by model and device.
        steps: Training steps of each.
        calls: Calls of ``step`` alone.
        fused: Whether to compile AdaFisher's step as well.
    """

    models: tuple[str, ...] = ("resnet18", "gpt1_mini", "vit_s16")
    batches: str | None = None
    steps: int = 10
    calls: int = 50
    fused: bool = False


OPTIONS = AdaFisherBench


def run(options: AdaFisherBench, device: torch.device) -> Iterator[dict[str, Any]]:
    """Measure every model at every batch size.

    Raises:
        UserError: If an option is out of range.
    """
    defaults = BATCHES["cuda" if device.type == "cuda" else "cpu"]
    steps, calls = (3, 5) if options.quick else (options.steps, options.calls)
    if min(steps, calls) < 2:
        raise UserError(f"Invalid steps or calls: {min(steps, calls)}. Must be >= 2.")
    chosen, names = options.models, sorted(defaults)
    for name in chosen:
        if name not in names:
            raise UserError(f"Invalid models: {name!r}. Must be of {', '.join(names)}.")
    batches = _sizes(options.batches) if options.batches else None
    for name in chosen:
        if name == "vit_s16" and find_spec("timm") is None:
            print("\nvit_s16: skipped, timm is not installed.")
            continue
        for batch in [2] if options.quick else batches or defaults[name]:
            contest = problem(name, batch, device)
            yield compare(contest, fused=options.fused, steps=steps, calls=calls)


def _on(device: torch.device, contest: Problem) -> Problem:
    inputs, targets = contest.inputs.to(device), contest.targets.to(device)
    return Problem(contest.name, contest.model.to(device), inputs, targets)


def _times(seconds: list[Seconds], clock: str) -> list[float]:
    return [getattr(each, clock) for each in seconds]


def _spread(values: list[float], reference: list[float]) -> dict[str, float]:
    pairs = [a / b for a, b in zip(values, reference, strict=True)]
    low, median, high = statistics.quantiles(pairs, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def _cell(spread: dict[str, float]) -> str:
    if spread["low"] == spread["high"]:
        return f"{spread['median']:.3f}"
    return f"{spread['median']:.3f} [{spread['low']:.3f}, {spread['high']:.3f}]"


def _typical(seconds: list[Seconds]) -> str:
    return f"{statistics.median(_times(seconds, 'wall')) * 1e3:.1f} ms"


def _sizes(text: str) -> list[int]:
    sizes = [int(part) if part.isdecimal() else 0 for part in text.split(",")]
    if min(sizes) < 1:
        raise UserError(f"Invalid batches: {text!r}. Must be whole numbers >= 1, by commas.")
    return sizes
