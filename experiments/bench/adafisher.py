"""What AdaFisher costs beside AdamW: `python -m experiments bench part=adafisher models=resnet18`.

Times are ratios to `torch.optim.AdamW(fused=True)` in the same round, by the module that times all
steps (``experiments.timing.steady``). A refresh every 100 steps is the step without a refresh, plus
a hundredth of what a refresh adds.
"""

import contextlib
import statistics
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import nn

from experiments.bench.builds import optimizer_of, worktree
from experiments.bench.options import BenchOptions
from experiments.bench.problem import Contender, Maker, Problem, peak_bytes
from experiments.config import refusals
from experiments.config.commandline import CONF
from experiments.config.sections import MethodSection
from experiments.engine.build import build_optimizer
from experiments.errors import UserError
from experiments.models import resnet
from experiments.models.gpt import GPT
from experiments.timing import steady
from experiments.timing.steady import Cost, Steps

Makers = dict[str, Maker]

REFERENCE, FOREACH = "adamw fused", "adamw foreach"
EVERY, RARELY, COMPILED = "refresh every step", "refresh every 100", "the same, fused=True"
BEFORE = ", before"  # of an earlier build
_NEVER = 1_000_000  # steps between two refreshes
LR = 1e-6  # standing gradients are stepped on many times
BATCHES = {  # by device: what an accelerator is for, and what a CPU does in seconds
    "cuda": {"resnet18": [128, 256], "gpt_char": [64], "vit_s16": [128], "gpt1_mini": [32]},
    "cpu": {"resnet18": [32], "gpt_char": [16], "vit_s16": [4], "gpt1_mini": [4]},
}
GPTS: dict[str, tuple[str, int, int, dict[str, Any]]] = {  # YAML, vocabulary, context, other sizes
    "gpt1_mini": ("gpt1_mini", 33278, 256, {}),  # of the wikitext2 task
    "gpt_char": (  # that of part=methods
        *("gpt_tiny", 65, 128),
        {"layers": 4, "heads": 4, "width": 128, "mlp_width": 512, "tied_head": True},
    ),
}


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
        name, vocabulary, context, sizes = GPTS[model]
        section = refusals.load(CONF / "model" / f"{name}.yaml")
        keys = ("layers", "heads", "width", "mlp_width", "norm", "dropout", "tied_head")
        own = {key: section[key] for key in keys} | sizes
        module = GPT(vocab_size=vocabulary, context=context, **own)
        tokens = torch.randint(vocabulary, (batch, context + 1))
        return _on(device, Problem(model, module, tokens[:, :-1], tokens[:, 1:]))
    targets = torch.randint(classes, (batch,))
    return _on(device, Problem(model, module, torch.randn(shape), targets))


def method_of(name: str) -> MethodSection:
    """Read the section of an optimizer from its YAML."""
    file = refusals.load(CONF / "optimizer" / f"{name}.yaml")
    # Some values refer to others of the section by their place in a whole config.
    whole: Any = OmegaConf.to_container(OmegaConf.create({"optimizer": file}), resolve=True)
    return MethodSection.of(whole["optimizer"])


def makers(*, fused: bool, before: ModuleType | None = None) -> Makers:
    """Make the contenders: AdamW twice, AdaFisherW refreshing every step and rarely.

    Args:
        fused: Whether to compile AdaFisher's step as well.
        before: An earlier build's package, which stands beside this one.
    """
    section = method_of("adafisherw")

    def adafisher(**options: Any) -> Maker:
        return lambda model: build_optimizer(section.having(lr=LR, **options), model)

    def earlier(build: ModuleType, interval: int) -> Maker:
        return lambda model: build.AdaFisherW(
            model, LR, weight_decay=decay, update_interval=interval
        )

    decay = section.arguments["weight_decay"]
    made: Makers = {
        REFERENCE: lambda m: torch.optim.AdamW(m.parameters(), LR, weight_decay=decay, fused=True),
        FOREACH: lambda m: torch.optim.AdamW(m.parameters(), LR, weight_decay=decay, foreach=True),
        EVERY: adafisher(update_interval=1),
        RARELY: adafisher(update_interval=_NEVER),
    }
    if before is not None:
        made |= {EVERY + BEFORE: earlier(before, 1), RARELY + BEFORE: earlier(before, _NEVER)}
    return made | ({COMPILED: adafisher(update_interval=_NEVER, fused=True)} if fused else {})


def compare(contest: Problem, *, fused: bool, before: ModuleType | None = None) -> dict[str, Any]:
    """Measure one problem, print its table and return everything that was measured.

    Args:
        contest: The problem.
        fused: See ``makers``.
        before: See ``makers``.

    Raises:
        UserError: If the machine is too busy for it.
    """
    made = makers(fused=fused, before=before)
    contenders = {name: Contender(contest, make) for name, make in made.items()}
    now = steady.clock(contest.inputs.device)

    def steps(name: str) -> Steps:
        if not name.startswith((RARELY, COMPILED)):
            return Steps(contenders[name].step)
        every = EVERY + BEFORE * name.endswith(BEFORE)
        return Steps(contenders[name].step, contenders[every].step, period=100)

    try:
        whole = steady.measure(
            {name: steps(name) for name in contenders}, reference=REFERENCE, now=now
        )
        for contender in contenders.values():
            contender.backward()
        with warnings.catch_warnings():
            # The gradients stand still on purpose, and so come without a pass that would refresh.
            warnings.filterwarnings("ignore", "AdaFisher: no rows came", UserWarning)
            calls = {name: Steps(one.optimizer.step) for name, one in contenders.items()}
            alone = steady.measure(calls, reference=REFERENCE, now=now)
    except steady.UnsteadyError as error:
        raise UserError(f"{contest.name}: {error}. Try again later.") from error
    state = {name: one.state_bytes for name, one in contenders.items()}
    forms = {name: getattr(one.optimizer, "form", None) for name, one in contenders.items()}
    contenders.clear()
    peak = {name: peak_bytes(contest, make, steps=2) for name, make in made.items()}
    print(
        f"\n{contest.name}, batch {len(contest.inputs)}: ratios to {REFERENCE} in the same round, "
        f"median and its spread over {len(whole[REFERENCE].wall)} rounds\n"
        f"  {REFERENCE}: whole step {whole[REFERENCE].seconds.wall * 1e3:.1f} ms, step() "
        f"{alone[REFERENCE].seconds.wall * 1e3:.1f} ms, state {state[REFERENCE] / 2**20:.1f} MiB, "
        f"peak {peak[REFERENCE] / 2**20:.1f} MiB\n"
        f"  {'':24}" + "".join(f"{head:>23}" for head in HEADS)
    )
    ratios: dict[str, dict[str, Any]] = {}
    for name in [*state, steady.ITSELF]:
        if name == REFERENCE:
            continue
        one = ratios[name] = {"whole": _facts(whole[name]), "alone": _facts(alone[name])}
        if forms.get(name):
            one["form"] = forms[name]
        cells = [_cell(costs[name], cpu) for costs in (whole, alone) for cpu in (False, True)]
        for key, sizes in (("state_bytes", state), ("peak_bytes", peak)):
            if name in sizes:
                one[key] = sizes[name] / sizes[REFERENCE]
                cells.append(f"{one[key]:.3f}")
        print(f"  {name:24}" + "".join(f"{cell:>23}" for cell in cells))
    return {"model": contest.name, "batch": len(contest.inputs), "ratios": ratios}


HEADS = ("whole step", "of CPU time", "step() alone", "of CPU time", "state bytes", "peak bytes")


@dataclass(frozen=True)
class AdaFisherBench(BenchOptions):
    """What is measured of AdaFisher.

    Attributes:
        models: Names.
        batches: Batch sizes; null: by model and device.
        fused: Whether to compile AdaFisher's step as well.
        before: A commit, whose optimizer is measured beside this one's.
    """

    models: tuple[str, ...] = ("resnet18", "gpt_char", "gpt1_mini", "vit_s16")
    batches: str | None = None
    fused: bool = False
    before: str | None = None


OPTIONS = AdaFisherBench


def run(options: AdaFisherBench, device: torch.device) -> Iterator[dict[str, Any]]:
    """Measure every model at every batch size.

    Raises:
        UserError: If an option is out of range.
    """
    defaults = BATCHES["cuda" if device.type == "cuda" else "cpu"]
    chosen, names = options.models, sorted(defaults)
    for name in chosen:
        if name not in names:
            raise UserError(f"Invalid models: {name!r}. Must be of {', '.join(names)}.")
    batches = _sizes(options.batches) if options.batches else None
    with contextlib.ExitStack() as stack:
        before = None
        if options.before is not None:
            before = optimizer_of(stack.enter_context(worktree(options.before)))
        for name in chosen:
            if name == "vit_s16" and find_spec("timm") is None:
                print("\nvit_s16: skipped, timm is not installed.")
                continue
            for batch in [2] if options.quick else batches or defaults[name]:
                contest = problem(name, batch, device)
                yield compare(contest, fused=options.fused, before=before)


def _on(device: torch.device, contest: Problem) -> Problem:
    inputs, targets = contest.inputs.to(device), contest.targets.to(device)
    return Problem(contest.name, contest.model.to(device), inputs, targets)


def _facts(cost: Cost) -> dict[str, Any]:
    return {
        **{"wall": cost.ratio, "cpu": cost.cpu_ratio, "spread_percent": cost.spread_percent},
        **{"seconds": cost.seconds._asdict(), "rounds": cost.wall},
    }


def _cell(cost: Cost, cpu: bool) -> str:
    values = cost.cpu if cpu else cost.wall
    low, high = steady.interval(values)
    return f"{statistics.median(values):.3f} [{low:.3f}, {high:.3f}]"


def _sizes(text: str) -> list[int]:
    sizes = [int(part) if part.isdecimal() else 0 for part in text.split(",")]
    if min(sizes) < 1:
        raise UserError(f"Invalid batches: {text!r}. Must be whole numbers >= 1, by commas.")
    return sizes
