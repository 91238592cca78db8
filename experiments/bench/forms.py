"""What the forms of a step cost beside the one that runs: `python -m experiments bench part=forms`.

Of every method whose YAML chooses a form (``fused``, ``foreach``): a step in that form and in each
other one that its class can be asked for, in the same rounds. A method that refreshes its curvature
takes steps without a refresh, which are alike in all forms.
"""

import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from experiments.bench import suite
from experiments.bench.options import BenchOptions
from experiments.bench.problem import Contender, Problem
from experiments.config import commandline
from experiments.config.sections import MethodSection
from experiments.engine.build import build_optimizer
from experiments.optimizers.forms import FLAGS, form_of
from experiments.timing import steady
from experiments.timing.steady import Cost, Steps
from experiments.timing.steppers import NEVER

LR = 1e-6  # standing gradients are stepped on many times

Row = dict[str, Any]


@dataclass(frozen=True)
class FormsBench(BenchOptions):
    """What is measured of forms.

    Attributes:
        models: Names.
        methods: Names in ``conf/optimizer``; null: all that have more than one form.
    """

    models: tuple[str, ...] = tuple(suite.MODELS)
    methods: tuple[str, ...] | None = None


OPTIONS = FormsBench


def run(options: FormsBench, device: torch.device) -> Iterator[Row]:
    """Measure every method on every model.

    Raises:
        UserError: If an option is out of range.
    """
    known = commandline.choices("optimizer")
    chosen = suite.names("methods", options.methods or known, known)
    batches = suite.BATCHES["cuda" if device.type == "cuda" else "cpu"]
    for model in suite.names("models", options.models, tuple(suite.MODELS)):
        batch = 2 if options.quick else batches[model]
        configs = [
            suite.config_of(model, name, batch=batch, device=device, threads=options.threads)
            for name in chosen
        ]
        contest = suite.problem_of(configs[0], device)
        for method in (config.optimizer for config in configs):
            if len(forms := forms_of(method)) > 1:
                yield {"model": model, "batch": batch, **compare(contest, method, forms)}


def forms_of(method: MethodSection) -> dict[str, MethodSection]:
    """Make a method in each form that its class can be asked for; none if its YAML chooses none."""
    if not set(FLAGS) & set(method.arguments):
        return {}
    module, _, name = method.arguments["_target_"].rpartition(".")
    asked = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    flags = [flag for flag in FLAGS if flag in asked]
    return {
        form: method.having(**{flag: flag == form for flag in flags}) for form in ("plain", *flags)
    }


def compare(contest: Problem, method: MethodSection, forms: dict[str, MethodSection]) -> Row:
    """Measure one method, print its table and return everything that was measured.

    Where the machine is too busy, the method is left out.
    """
    own = {"lr": LR, **({method.refresh_key: NEVER} if method.refresh_key else {})}
    makers = {form: partial(build_optimizer, one.having(**own)) for form, one in forms.items()}
    contenders = {form: Contender(contest, make, method.needs) for form, make in makers.items()}
    running = form_of(build_optimizer(method, contest.model)) or ""
    now = steady.clock(contest.inputs.device)
    parts = {"whole": {form: Steps(one.step) for form, one in contenders.items()}}
    if not method.needs.model:  # others read more of a pass than its gradients, or change these
        parts["alone"] = {form: Steps(one.optimizer.step) for form, one in contenders.items()}
    measured: dict[str, dict[str, Cost]] = {}
    for part, calls in parts.items():
        if part == "alone":
            for contender in contenders.values():
                contender.backward()
        try:
            measured[part] = steady.measure(calls, reference=running, now=now)
        except steady.UnsteadyError as error:
            print(f"\n{contest.name}, {method.name}: left out: {error}", flush=True)
            return {"method": method.name, "form": running, "left_out": str(error)}
    print(
        f"\n{contest.name}, batch {len(contest.inputs)}, {method.name}: ratios to its form, "
        f"{running}, in the same round"
    )
    for form in (*forms, steady.ITSELF):
        cells = "".join(
            f"  {part} {of[form].ratio:.3f} +- {of[form].spread_percent:.1f} %"
            f" ({of[form].seconds.wall * 1e3:.2f} ms)"
            for part, of in measured.items()
        )
        print(f"  {form:22}{cells}", flush=True)
    ratios = {
        form: {part: _facts(of[form]) for part, of in measured.items()}
        for form in (*forms, steady.ITSELF)
    }
    return {"method": method.name, "form": running, "ratios": ratios}


def _facts(cost: Cost) -> Row:
    return {
        **{"wall": cost.ratio, "cpu": cost.cpu_ratio, "spread_percent": cost.spread_percent},
        "seconds": cost.seconds._asdict(),
    }
