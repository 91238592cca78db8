"""From a resolved config to the objects of a run; alone in reading `needs` and the suite's keys."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn
from torch.optim import Optimizer

from experiments import budget, seeding
from experiments.errors import UserError
from experiments.models import transfer
from experiments.schedule import Schedule
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
    ),
    "tokenization": ("name", "published_as"),
    "model": ("name", "parameters", "published_as", "weights"),
    "optimizer": ("name", "family", "needs", "search", "published_as"),
    "schedule": ("name",),
}
DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class Built:
    """Everything that a run trains with."""

    task: Task
    model: nn.Module
    optimizer: Optimizer
    schedule: Schedule
    device: torch.device
    batch_size: int
    eval_batch_size: int
    evaluations_per_epoch: int
    steps_per_epoch: int
    total_steps: int
    observes_logits: bool  # the optimizer wants the logits between forward and backward
    pretrained: transfer.Loaded | None  # what the model started from; None: random weights
    creates_graph: bool  # it differentiates the gradients once more
    takes_closure: bool  # its step evaluates the loss itself


def build(config: Mapping[str, Any]) -> Built:
    """Build a run from its resolved config.

    Raises:
        UserError: If a value is unusable; the message names section, value and bound.
    """
    device = pick_device(config["device"])
    task = build_task(config)
    seeding.seed_global(config["seed"], "init")
    model = build_model(config["model"], task)
    pretrained = load_pretrained(config, model)
    model = model.to(device)
    counts = sizes(config["task"])
    steps_per_epoch = task.train.num_batches(counts["batch_size"])
    total_steps = budget.total_steps(config["budget"], steps_per_epoch=steps_per_epoch)
    schedule = _construct("schedule", config["schedule"])
    return Built(
        task=task,
        model=model,
        optimizer=build_optimizer(config["optimizer"], model),
        schedule=_call(
            "schedule",
            config,
            schedule,
            total_steps=total_steps,
            steps_per_epoch=steps_per_epoch,
        ),
        device=device,
        **counts,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        observes_logits=bool(config["optimizer"]["needs"]["logits"]),
        pretrained=pretrained,
        creates_graph=bool(config["optimizer"]["needs"]["create_graph"]),
        takes_closure=bool(config["optimizer"]["needs"]["closure"]),
    )


def build_task(config: Mapping[str, Any]) -> Task:
    """Read the data of the config's task; a task of text gets the tokenization."""
    maker = _construct("task", config["task"])
    chosen = config.get("tokenization")
    text = {"tokenization": _construct("tokenization", chosen)} if chosen else {}
    return _call(
        "task",
        config,
        maker,
        data_dir=Path(config["data_dir"]),
        cache_dir=Path(config["cache_dir"]),
        **text,
    )


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
    subject: Any = model if section["needs"]["model"] else model.parameters()
    return _call("optimizer", {"optimizer": section}, _construct("optimizer", section), subject)


def pick_device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` is the accelerator if there is one."""
    if name not in DEVICES:
        raise UserError(f"Invalid device: {name!r}. Must be one of: {', '.join(DEVICES)}.")
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        name = "cuda" if available["cuda"] else "cpu"
    if not available[name]:
        raise UserError(f"Invalid device: {name}. It is not available on this machine.")
    return torch.device(name)


def _construct(kind: str, section: Mapping[str, Any]) -> Callable[..., Any]:
    """The ``functools.partial`` that a section of the config describes."""
    own = {key: value for key, value in section.items() if key not in SUITE_KEYS[kind]}
    try:
        made: Callable[..., Any] = instantiate(own, _convert_="all")
    except InstantiationException as error:
        raise UserError(f"{kind}: {_first_line(error)}") from error
    return made


def _call(
    kind: str, config: Mapping[str, Any], maker: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """Call ``maker``, and turn its refusal of a value into the user's one line."""
    try:
        return maker(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise UserError(f"{kind}={config[kind]['name']}: {_first_line(error)}") from error


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


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
