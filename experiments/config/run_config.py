"""One run's config, typed: made once where it is composed, and handed on.

A section of the config has the arguments of one object and, under ``suite``, what only the suite
reads. A run's id is a hash of the arguments and of the few keys of ``suite`` that say what is run.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

from experiments.config import suite_keys
from experiments.config.nearest import nearest
from experiments.config.suite_keys import SUITE
from experiments.errors import UserError

T = TypeVar("T")
Values = Mapping[str, Any]

FOLDERS = ("data_dir", "runs_dir", "cache_dir")
IDENTIFYING = ("name", "family", "needs", "epochs", "weights")
"""Keys of ``suite`` that are part of a run's id; whatever else stands there is none."""

# Where a run reads and writes, how it is shown, and notes: none of it changes a measurement.
# Neither does the number of processes, nor how they share the model, but by rounding.
NOT_HASHED = (
    "data_dir",
    "runs_dir",
    "cache_dir",
    "tracking",
    "threads",
    "retry",
    "fresh",
    "grids",
    "recipe",
    "distributed",
    "tuning",
    "origin",
    "jobs",
    "processes",
    "fail_fast",
    "deterministic",
    "untuned",
    "memory_limit_gb",
    "evaluate_test",
    "budget.by_optimizer",
    "pretrained.minimum_percent",
    "model.weights_dir",
    "task.workers",
)
# Nulls that were hashed from the first. Every other null is left out at any depth, and so is a
# value that the section's `neutral` names: an argument that comes later changes no id while it
# changes nothing.
NULLS = (
    "setting",
    "pretrained.source",
    "model.weights",
    "optimizer.shampoo_beta",
    "optimizer.ema_decay",
    "budget.reference_steps",
    "schedule.horizon_epochs",
)


@dataclass(frozen=True)
class Section:
    """What a config says of one object.

    Attributes:
        arguments: What the object is made with, ``_target_`` among them.
        suite: What only the suite reads.
    """

    arguments: Values
    suite: Values

    @classmethod
    def of(cls, values: Values, kind: str | None = None) -> Self:
        """Take a section apart.

        Args:
            values: The section.
            kind: What it is a section of, a key of ``suite_keys.KEYS``, by which it is checked.

        Raises:
            UserError: If it is none, or something under its ``suite`` is none that there can be.
        """
        if not isinstance(values, Mapping):
            raise UserError(f"Invalid {kind}: {values!r}. Must be a mapping with a _target_.")
        own = {key: value for key, value in values.items() if key != SUITE}
        suite = values.get(SUITE) if kind is None else suite_keys.checked(kind, values.get(SUITE))
        return cls(own, suite or {})

    @property
    def values(self) -> dict[str, Any]:
        """The section as a config has it."""
        return {**self.arguments, SUITE: dict(self.suite)}

    @property
    def name(self) -> str:
        """Its name in ``conf/``."""
        name: str = self.suite["name"]
        return name

    @property
    def published_as(self) -> str | None:
        """Its name in the published tables; None: it is not in them."""
        return self.suite.get("published_as")

    @property
    def neutral(self) -> Values:
        """Values that leave the id of a run as it was before they could be given."""
        return self.suite.get("neutral") or {}

    @cached_property
    def hyperparameters(self) -> dict[str, Any]:
        """The values of its arguments, without what says which object it is."""
        return {key: value for key, value in self.arguments.items() if not key.startswith("_")}


@dataclass(frozen=True)
class Needs:
    """What the training loop must give an optimizer.

    Attributes:
        model: The model in place of its parameters.
        logits: The logits, before the backward pass.
        create_graph: Gradients that can be differentiated once more.
        closure: A closure that evaluates the loss.
        keep_gradients: Gradients that nothing clears between steps.
    """

    model: bool = False
    logits: bool = False
    create_graph: bool = False
    closure: bool = False
    keep_gradients: bool = False

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not isinstance(value, bool):
                raise UserError(
                    f"Invalid optimizer.suite.needs.{one.name}: {value!r}. Must be true or false."
                )


@dataclass(frozen=True)
class MethodSection(Section):
    """The section of an optimizer."""

    @cached_property
    def needs(self) -> Needs:
        """What it must be given."""
        return _made(Needs, "optimizer.suite.needs", self.suite.get("needs") or {})

    @property
    def family(self) -> str:
        """The method that it is a variant of; its own name where its file names none."""
        family: str = self.suite.get("family", self.name)
        return family

    @property
    def control(self) -> dict[str, Any] | None:
        """What its scalar control takes over; None: it has no preconditioner."""
        return self.suite.get("control")

    @property
    def is_shardable(self) -> bool:
        """Whether it steps parameters that ``fully_shard`` has split."""
        return bool(self.suite.get("shardable", False))

    @cached_property
    def hyperparameters(self) -> dict[str, Any]:
        """As of any section, and that gradients are kept, which changes a method."""
        kept = {"keep_gradients": True} if self.needs.keep_gradients else {}
        return super().hyperparameters | kept

    @cached_property
    def hashed_hyperparameters(self) -> dict[str, Any]:
        """Those that are not at a value that leaves the id as it is."""
        neutral = {f"optimizer.{key}": value for key, value in self.neutral.items()}
        return _without_neutral(self.hyperparameters, "optimizer.", neutral)

    def having(self, **arguments: Any) -> "MethodSection":
        """Return the same method with other arguments."""
        return MethodSection({**self.arguments, **arguments}, self.suite)


@dataclass(frozen=True)
class Batching:
    """How the loop goes through a task.

    Attributes:
        batch_size: Images or windows of text in a step, of all processes together.
        eval_batch_size: The same in an evaluation.
        evaluations_per_epoch: How often the splits are looked at.

    Raises:
        UserError: If a number is not a positive whole one, or ``drop_last`` neither true nor false.
    """

    batch_size: int
    eval_batch_size: int
    evaluations_per_epoch: int
    drop_last: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "eval_batch_size", "evaluations_per_epoch"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"Invalid task.{name}: {value}. Must be a whole number >= 1.")
        if not isinstance(self.drop_last, bool):
            raise UserError(f"Invalid task.drop_last: {self.drop_last}. Must be true or false.")

    def smallest(self, samples: int) -> int:
        """Return how many samples the smallest batch of an epoch has.

        Args:
            samples: How many there are to train on.
        """
        last = 0 if self.drop_last else samples % self.batch_size
        return last or self.batch_size

    def steps_per_epoch(self, samples: int) -> int:
        """Return how many batches an epoch has.

        Raises:
            UserError: If every batch would be left out.
        """
        full, last = divmod(samples, self.batch_size)
        if not self.drop_last:
            return full + (last > 0)
        if not full:
            raise UserError(
                f"Invalid task.batch_size: {self.batch_size}. Must be <= {samples}, the number of "
                "training samples, with task.drop_last=true."
            )
        return full


@dataclass(frozen=True)
class TaskSection(Section):
    """The section of a task: what its data are made with, and how the loop goes through them."""

    @cached_property
    def data_arguments(self) -> dict[str, Any]:
        """What the data are made with."""
        own = {one.name for one in fields(Batching)}
        return {key: value for key, value in self.arguments.items() if key not in own}

    @cached_property
    def batching(self) -> Batching:
        """How the loop goes through them."""
        return Batching(
            **{
                one.name: self.arguments[one.name]
                for one in fields(Batching)
                if one.name in self.arguments  # a record of before an argument came lacks it
            }
        )


@dataclass(frozen=True)
class Pretrained:
    """Weights that the training starts from: where they are, and how many must be used."""

    source: str | None
    minimum_percent: float = 90.0


@dataclass(frozen=True)
class RunConfig:
    """The config of one run; ``values`` is all of it as its record has it, the rest is read there.

    A record of an older version lacks keys that came later; their defaults are what it ran with.
    """

    values: Values
    task: TaskSection
    model: Section
    optimizer: MethodSection
    schedule: Section
    tokenization: Section | None
    budget: Values
    pretrained: Pretrained
    seed: int
    ruleset: str
    data_dir: Path = Path("data")
    runs_dir: Path = Path("runs")
    cache_dir: Path = Path(".cache")
    tracking: dict[str, Any] = field(default_factory=dict)
    setting: str | None = None
    control: str | None = None
    device: str = "auto"
    precision: str = "fp32"
    loss_scale: float | None = None
    compile: bool = False
    channels_last: bool | str = "auto"
    distributed: str = "ddp"
    deterministic: bool = False
    evaluate_test: bool = True
    threads: int | None = None
    jobs: int = 1
    fresh: bool = False
    processes: int = 1
    memory_limit_gb: float | None = None
    retry: bool = False
    fail_fast: bool = False
    untuned: str = "refuse"
    tuning: dict[str, Any] | None = None
    recipe: str | None = None
    grids: list[Any] | None = None
    origin: dict[str, Any] | None = None
    debug: dict[str, Any] | None = None

    @classmethod
    def of(cls, values: Values) -> "RunConfig":
        """Read a resolved config.

        Args:
            values: Plain values, as Hydra composes them and a record keeps them.
        """
        text = values.get("tokenization")
        folders = {key: Path(values[key]) for key in FOLDERS if key in values}
        made: dict[str, Any] = {
            "values": values,
            "task": TaskSection.of(values["task"], "task"),
            "model": Section.of(values["model"], "model"),
            "optimizer": MethodSection.of(values["optimizer"], "optimizer"),
            "schedule": Section.of(values["schedule"], "schedule"),
            "tokenization": Section.of(text, "tokenization") if text else None,
            "pretrained": _made(Pretrained, "pretrained", values["pretrained"]),
            **folders,
        }
        known = cls.keys()
        plain = {key: item for key, item in values.items() if key in known and key not in made}
        return cls(**made, **plain)

    @classmethod
    def keys(cls) -> list[str]:
        """List the top-level keys that a config can have."""
        return [one.name for one in fields(cls) if one.name != "values"]

    def having(self, **changes: Any) -> "RunConfig":
        """Return the same with other values of its top-level keys, plain as ``of`` takes them."""
        return RunConfig.of({**self.values, **changes})

    @cached_property
    def essence(self) -> dict[str, Any]:
        """What the id is made of, without what is left out of it at any depth."""
        return essence(self.values)

    @cached_property
    def run_id(self) -> str:
        """Id of the run: a hash of what it is, whatever the order of its keys."""
        return digest(self.essence)

    @cached_property
    def group_id(self) -> str:
        """Id that the seeds of one setting share."""
        return digest({key: value for key, value in self.essence.items() if key != "seed"})

    @cached_property
    def label(self) -> str:
        """The run in a few words, for displays."""
        return label_of(self.task.name, self.optimizer.name, seed=self.seed, control=self.control)


def _made(kind: type[T], place: str, values: Values) -> T:
    if not isinstance(values, Mapping):
        raise UserError(f"Invalid {place}: {values!r}. Must be a mapping.")
    known = [one.name for one in fields(kind)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise UserError(f"Unknown key: '{place}.{key}'. {nearest(key, known)}")
    return kind(**values)


def label_of(task: str, optimizer: str, *, seed: int, control: str | None) -> str:
    """Name a run in a few words, from its record as from its config.

    Example:
        >>> label_of("digits", "adam", seed=0, control=None)
        'digits adam seed 0'
        >>> label_of("digits", "adam", seed=0, control="scalar")
        'digits adam control=scalar seed 0'
    """
    return f"{task} {method(optimizer, control)} seed {seed}"


def method(optimizer: str, control: str | None) -> str:
    """Name an optimizer, or its control, in a few words."""
    return optimizer if control is None else f"{optimizer} control={control}"


def essence(values: Values) -> dict[str, Any]:
    """Leave out of a config, at any depth, what is no part of an id."""
    return {
        key: _essential(key, value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if key not in NOT_HASHED and (value is not None or key in NULLS)
    }


def digest(value: Any) -> str:
    """Hash plain values, whatever the order of their keys, to twelve hexadecimal digits."""
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _essential(key: str, values: Values) -> dict[str, Any]:
    section = Section.of(values)
    said = {name: section.suite[name] for name in IDENTIFYING if name in section.suite}
    own = {**section.arguments, **said}
    return _without_neutral(
        {name: value for name, value in own.items() if f"{key}.{name}" not in NOT_HASHED},
        f"{key}.",
        {f"{key}.{name}": value for name, value in section.neutral.items()},
    )


def _without_neutral(section: Values, prefix: str, neutral: Values) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in section.items():
        name = f"{prefix}{key}"
        if name in neutral:
            # A null beside a neutral value that is none is a choice of its own.
            if _canonical(value) != _canonical(neutral[name]):
                kept[key] = value
        elif isinstance(value, Mapping):
            kept[key] = _without_neutral(value, f"{name}.", neutral)
        elif value is not None or name in NULLS:
            kept[key] = value
    return kept


def _canonical(value: Any) -> Any:
    """One spelling for each value: ``1`` and ``1.0`` are the same number to every method."""
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
