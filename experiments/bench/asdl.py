"""What our K-FAC, EKFAC and Shampoo cost beside ASDL's: `python -m experiments bench part=asdl`.

ASDL (PyPI: asdfghjkl) is the library of the AdaFisher authors' K-FAC and Shampoo runs. Every round
gives one training step to each contender, with one batch. A ratio is the contender's time over full
refresh intervals divided by the AdamW (foreach) time of the same rounds; CPU time on a CPU.
"""

import copy
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.bench.interleaved import Problem
from experiments.bench.options import BenchOptions
from experiments.errors import UserError
from experiments.models import resnet
from experiments.models.gpt import GPT
from experiments.optimizers.kfac import KFAC
from experiments.optimizers.shampoo import Shampoo

REFERENCE = "adamw foreach"
INTERVAL = 10
DAMPING, RIDGE = 1e-3, 1e-12  # of the released runs
LR = 1e-6  # so that no contender leaves the common start
DROPPED = 2  # rounds at the start that are not counted, the first refresh among them
PROBLEMS = {"resnet18": 32, "gpt_small": 16}  # with the batch size
Step = Callable[[], None]


class Contestant(NamedTuple):
    """A method with its model.

    Attributes:
        step: One training step.
        roots: What its curvature hangs on, the model aside.
        model: Its model.
    """

    step: Step
    roots: list[Any]
    model: nn.Module


@dataclass(frozen=True)
class ASDLBench(BenchOptions):
    """What is measured beside ASDL.

    Attributes:
        models: Names.
        intervals: Full intervals to measure.
        methods: Names; null: all.
    """

    models: tuple[str, ...] = tuple(PROBLEMS)
    intervals: int = 2
    methods: tuple[str, ...] | None = None


OPTIONS = ASDLBench


def run(options: ASDLBench, device: torch.device) -> Iterator[dict[str, Any]]:
    """Measure every model.

    Raises:
        UserError: If an option is out of range.
    """
    for name in (chosen := options.models):
        if name not in PROBLEMS:
            raise UserError(f"Invalid models: {name!r}. Must be of {', '.join(PROBLEMS)}.")
    if options.intervals < 1:
        raise UserError(f"Invalid intervals: {options.intervals}. Must be >= 1.")
    makers = MAKERS
    if find_spec("asdl") is None:
        print("\nASDL's rows: skipped, asdfghjkl is not installed.")
        makers = {name: maker for name, maker in makers.items() if not name.endswith("asdl")}
    if options.methods:
        for name in (wanted := options.methods):
            if name not in makers:
                raise UserError(f"Invalid methods: {name!r}. Must be of {', '.join(makers)}.")
        makers = {name: maker for name, maker in makers.items() if name in wanted}
    for name in chosen:
        contest = problem(name, 2 if options.quick else PROBLEMS[name], device)
        rounds = DROPPED + INTERVAL * (1 if options.quick else options.intervals)
        yield compare(contest, makers, rounds)


def problem(name: str, batch: int, device: torch.device) -> Problem:
    """Make a model with random weights and a random batch, the same in every run."""
    torch.manual_seed(0)
    if name == "resnet18":
        model: nn.Module = resnet.build(
            depth=18, stem="cifar", in_channels=3, num_classes=10, image_size=32
        )
        inputs, targets = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))
    else:
        model = GPT(
            vocab_size=65,
            context=64,
            layers=4,
            heads=4,
            width=128,
            mlp_width=512,
            norm="pre",
            dropout=0.0,
            tied_head=True,
        )
        tokens = torch.randint(65, (batch, 65))
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
    return Problem(name, model.to(device), inputs.to(device), targets.to(device))


def compare(
    contest: Problem, makers: dict[str, Callable[[Problem], Contestant]], rounds: int
) -> dict[str, Any]:
    """Measure one problem, print its table and return the numbers."""
    contestants = {
        name: make(replace(contest, model=copy.deepcopy(contest.model)))
        for name, make in {REFERENCE: adamw, **makers}.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ASDL's own, on hooks of a kind that torch deprecates
        for _ in range(rounds):
            for name, contestant in contestants.items():
                seconds[name].append(_seconds(contestant.step, contest.inputs.device))
    base = seconds[REFERENCE][DROPPED:]
    rows: dict[str, dict[str, Any]] = {}
    print(
        f"\n{contest.name}, batch {len(contest.inputs)}: ratios to {REFERENCE}, {len(base)} steps"
    )
    print(f"  {'':16}{'amortised':>12}{'median':>10}{'refresh':>10}{'curvature MB':>16}")
    for name, times in seconds.items():
        kept = times[DROPPED:]
        typical = _median(base)
        rows[name] = {
            "amortised": sum(kept) / sum(base),
            "median": _median(kept) / typical,
            "slowest": max(kept) / typical,
            "curvature_bytes": held_bytes(contestants[name]),
            "seconds": times,
        }
        print(
            f"  {name:16}{rows[name]['amortised']:12.2f}{rows[name]['median']:10.2f}"
            f"{rows[name]['dearest']:10.2f}{rows[name]['curvature_bytes'] / 1e6:16.2f}"
        )
    return {"model": contest.name, "batch": len(contest.inputs), "rows": rows}


def adamw(contest: Problem) -> Contestant:
    """Make the reference."""
    optimizer = torch.optim.AdamW(contest.model.parameters(), lr=LR, foreach=True)

    def step() -> None:
        optimizer.zero_grad()
        logits = contest.model(contest.inputs).flatten(0, -2)
        F.cross_entropy(logits, contest.targets.flatten()).backward()
        optimizer.step()

    return Contestant(step, [], contest.model)


def ours(make: Callable[[nn.Module], Any]) -> Callable[[Problem], Contestant]:
    """One of our methods, in the training step of the loop."""

    def contestant(contest: Problem) -> Contestant:
        optimizer = make(contest.model)

        def step() -> None:
            optimizer.zero_grad()
            logits = contest.model(contest.inputs).flatten(0, -2)
            optimizer.observe(logits)
            F.cross_entropy(logits, contest.targets.flatten()).backward()
            optimizer.step()

        return Contestant(step, [optimizer.transform], contest.model)

    return contestant


def theirs(maker_name: str, **options: Any) -> Callable[[Problem], Contestant]:
    """One of ASDL's gradient makers as the authors drive it: clipping, then SGD."""

    def contestant(contest: Problem) -> Contestant:
        asdl = import_module("asdl")
        model = contest.model
        config = asdl.PreconditioningConfig(
            data_size=contest.targets.numel(),
            preconditioner_upd_interval=INTERVAL,
            ignore_modules=[nn.BatchNorm2d, nn.LayerNorm, nn.Embedding],
            **options,
        )
        maker = getattr(asdl, maker_name)(model, config)
        optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)

        def loss(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
            rows = logits.flatten(0, -2)
            return F.cross_entropy(rows, targets.flatten(), reduction=reduction)

        def step() -> None:
            optimizer.zero_grad()
            output = maker.setup_model_call(model, contest.inputs)
            maker.setup_loss_call(loss, output, contest.targets)
            maker.forward_and_backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

        return Contestant(step, [maker], model)

    return contestant


def held_bytes(contestant: Contestant) -> int:
    """Memory of all tensors that hang on the method or the model's modules.

    Parameters, gradients and buffers do not count, nor does SGD's momentum.
    """
    model = contestant.model
    own = [*model.parameters(), *model.buffers()]
    own += [p.grad for p in model.parameters() if p.grad is not None]
    seen = {tensor.untyped_storage().data_ptr() for tensor in own}
    visited: set[int] = set()
    total = 0
    stack: list[Any] = [*contestant.roots, *model.modules()]
    while stack:
        thing = stack.pop()
        if id(thing) in visited:
            continue
        visited.add(id(thing))
        if isinstance(thing, Tensor):
            storage = thing.untyped_storage()
            total += 0 if storage.data_ptr() in seen else storage.nbytes()
            seen.add(storage.data_ptr())
        elif isinstance(thing, dict):
            stack += thing.values()
        elif isinstance(thing, list | tuple | set):
            stack += thing
        elif isinstance(thing, nn.Module) or (hasattr(thing, "__dict__") and not callable(thing)):
            stack += vars(thing).values()
    return total


def _seconds(work: Step, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        work()
        torch.cuda.synchronize(device)
        return time.perf_counter() - start
    start = time.process_time()
    work()
    return time.process_time() - start


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


MAKERS = {
    "kfac": ours(lambda m: KFAC(m, LR, damping=DAMPING, interval=INTERVAL, max_norm=1.0)),
    "kfac asdl": theirs("KfacGradientMaker", damping=DAMPING),
    "shampoo": ours(lambda m: Shampoo(m, LR, ridge=RIDGE, interval=INTERVAL, max_norm=1.0)),
    "shampoo asdl": theirs("ShampooGradientMaker", damping=RIDGE, curvature_upd_interval=1),
}
