"""From a resolved config to the objects of a run; reads `needs` and the suite's own keys."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.optim import Optimizer

from experiments import seeding
from experiments.config import budget
from experiments.engine import compute, decay, parallel
from experiments.engine.built import Built
from experiments.engine.compute import Compute
from experiments.engine.precision import Precision
from experiments.engine.ranks import Ranks
from experiments.engine.synced_norm import synchronise
from experiments.errors import UserError, first_line
from experiments.models import transfer
from experiments.optimizers.scalar_control import ScalarControl
from experiments.records.calibration import Calibration
from experiments.tasks.task import Task

# Keys of a section that the suite reads itself and the built object never sees.
SUITE_KEYS = {
    "task": (
        "name",
        "epochs",
        "batch_size",
        "eval_batch_size",
        "evaluations_per_epoch",
        "threads",
        "published_as",
        "neutral",
    ),
    "tokenization": ("name", "published_as", "neutral"),
    "model": ("name", "parameters", "published_as", "weights", "neutral"),
    "optimizer": (
        "name",
        "family",
        "needs",
        "shardable",
        "search",
        "published_as",
        "control",
        "neutral",
        "nullable",
    ),
    "schedule": ("name", "neutral"),
}


def build(
    config: Mapping[str, Any],
    world: Ranks | None = None,
    *,
    calibration: Calibration | None = None,
    task: Task | None = None,
    scales: Tensor | None = None,
) -> Built:
    """Build a run from its resolved config.

    Args:
        config: The resolved config.
        world: The processes that build it together; this one alone by default.
        calibration: What a step costs, for a budget that matches a training time.
        task: The config's task, where it is built already.
        scales: ``[steps]``, step sizes of a scalar control, which takes the optimizer's place.

    Raises:
        UserError: If a value is unusable; the message names section, value and bound.
    """
    world = Ranks() if world is None else world
    plan = compute.resolve(config)
    if task is None:
        task = world.together(lambda: build_task(config))
    for split in (task.train, task.validation, task.test):
        if split is not None:
            split.to(plan.device)
    channels_last = plan.lays_channels_last(images=task.unit == "images")
    seeding.seed_global(config["seed"], "init")
    model = build_model(config["model"], task)
    pretrained = load_pretrained(config, model)
    model = _placed(model, plan, channels_last=channels_last)
    counts = sizes(config["task"])
    steps_per_epoch = task.train.num_batches(counts["batch_size"])
    limits = budget.limits(
        config["budget"], steps_per_epoch=steps_per_epoch, calibration=calibration
    )
    schedule = _construct("schedule", config["schedule"])
    section = config["optimizer"]
    if scales is None:
        section = _with_stream(section, config["seed"])
        optimizer, needs = build_optimizer(section, model), section["needs"]
    else:
        optimizer, needs = build_control(section, model, scales, limits), {}
    return Built(
        task=task,
        model=model,
        optimizer=optimizer,
        forward=_wrapped(model, plan),
        schedule=_call(
            "schedule",
            config,
            schedule,
            horizon=limits.horizon,
            epoch=steps_per_epoch if limits.train_seconds is None else None,
        ),
        device=plan.device,
        **counts,
        steps_per_epoch=steps_per_epoch,
        limits=limits,
        observes_logits=bool(needs.get("logits")),
        pretrained=pretrained,
        creates_graph=bool(needs.get("create_graph")),
        takes_closure=bool(needs.get("closure")),
        keeps_gradients=bool(needs.get("keep_gradients")),
        precision=Precision(plan.precision, plan.device, loss_scale=plan.loss_scale),
        channels_last=channels_last,
        compiled=plan.compiled,
        strategy=plan.strategy,
        world=world,
    )


def _placed(model: nn.Module, plan: Compute, *, channels_last: bool) -> nn.Module:
    """The model as the optimizer gets it: on its device, and split if it is to be."""
    model = model.to(plan.device)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    if plan.strategy is not None:
        model = synchronise(model, plan.device)
    return parallel.split(model) if plan.strategy == "fsdp" else model


def _wrapped(model: nn.Module, plan: Compute) -> Callable[[Tensor], Tensor]:
    """What training calls; the hooks of the optimizer are on the model inside."""
    forward = parallel.replicate(model, plan.device) if plan.strategy == "ddp" else model
    return torch.compile(forward) if plan.compiled else forward


def build_task(config: Mapping[str, Any]) -> Task:
    """Read the data of the config's task; a task of text gets the tokenization."""
    maker = _construct("task", config["task"])
    chosen = config.get("tokenization")
    text = {"tokenization": _construct("tokenization", chosen)} if chosen else {}
    task: Task = _call(
        "task",
        config,
        maker,
        data_dir=Path(config["data_dir"]),
        cache_dir=Path(config["cache_dir"]),
        **text,
    )
    return task if config.get("evaluate_test", True) else task.without_test()


def build_model(section: Mapping[str, Any], task: Task) -> nn.Module:
    """Make the model, fitted to the inputs and classes of ``task``."""
    return _call("model", {"model": section}, _construct("model", section), **task.model_arguments)


def load_pretrained(config: Mapping[str, Any], model: nn.Module) -> transfer.Loaded | None:
    """Load the weights that the config's ``pretrained`` names, if any."""
    section = config["pretrained"]
    if section["source"] is None:
        return None
    return transfer.load(
        model,
        section["source"],
        name=config["model"]["name"],
        weights=config["model"].get("weights"),
        data_dir=Path(config["data_dir"]),
        minimum_percent=section["minimum_percent"],
    )


def build_optimizer(section: Mapping[str, Any], model: nn.Module) -> Optimizer:
    """Make the optimizer; a method that needs the model gets it in place of the parameters."""
    subject: Any = model
    own = section
    if not section["needs"]["model"]:
        subject = decay.groups(section, model)
        own = {key: value for key, value in section.items() if key != decay.KEY}
    return _call("optimizer", {"optimizer": section}, _construct("optimizer", own), subject)


def build_control(
    section: Mapping[str, Any], model: nn.Module, scales: Tensor, limits: budget.Limits
) -> Optimizer:
    """Make the scalar control of a method: its momentum and decay, at the measured step sizes."""
    if len(scales) != limits.steps:
        raise UserError(
            f"control=scalar: {len(scales)} step sizes are kept for {limits.steps} steps. Must be "
            "as many: remove the run's folder to measure them again."
        )
    return ScalarControl(
        decay.groups(section, model),
        section["lr"],
        scales=scales,
        weight_decay=section["weight_decay"],
        **section["control"],
    )


def _with_stream(section: Mapping[str, Any], seed: int) -> Mapping[str, Any]:
    """The section with a stream of the run's seed, if its method draws random numbers.

    A stream of its own: it draws nothing from that of the dropout, so that methods of one seed see
    the same masks; and it differs between seeds, whose spread then includes it.
    """
    if "seed" not in section:
        return section
    return {**section, "seed": seeding.derive(seed, "optimizer", section["seed"])}


def _construct(kind: str, section: Mapping[str, Any]) -> Callable[..., Any]:
    """The ``functools.partial`` that a section of the config describes."""
    own = {key: value for key, value in section.items() if key not in SUITE_KEYS[kind]}
    try:
        made: Callable[..., Any] = instantiate(own, _convert_="all")
    except InstantiationException as error:
        raise UserError(f"{kind}: {first_line(error)}") from error
    return made


def _call(
    kind: str, config: Mapping[str, Any], maker: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """Call ``maker``, and turn its refusal of a value into the user's one line."""
    try:
        return maker(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise UserError(f"{kind}={config[kind]['name']}: {first_line(error)}") from error


def sizes(section: Mapping[str, Any]) -> dict[str, int]:
    """The counts of a task's section that the loop reads.

    Raises:
        UserError: If one is not a positive whole number.
    """
    counts = {
        key: section[key] for key in ("batch_size", "eval_batch_size", "evaluations_per_epoch")
    }
    for key, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"Invalid task.{key}: {value}. Must be a whole number >= 1.")
    return counts
