"""The sections of a config: the arguments of one object each, and what only the suite reads."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self, TypeVar

from experiments.config import suite_keys
from experiments.config.essence import Values, without_neutral
from experiments.config.nearest import nearest
from experiments.config.suite_keys import SUITE
from experiments.errors import UserError

T = TypeVar("T")

REFRESH_KEYS = (
    *("interval", "update_interval", "precondition_frequency"),  # those of conf/optimizer/
    *("preconditioning_compute_steps", "inverse_steps", "update_period", "update_proj_gap"),
    *("update_each", "update_freq", "inv_update_steps"),  # timm, torch_optimizer, kfac-pytorch
)
"""How methods call the number of steps between two refreshes of their curvature, and libraries:
the second line has those of pytorch_optimizer. A method may name its own, ``suite.refresh``."""


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
        return made_of(Needs, "optimizer.suite.needs", self.suite.get("needs") or {})

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
    def refresh_key(self) -> str | None:
        """Which argument says how many steps lie between two refreshes of its curvature.

        The one that ``suite.refresh`` names, null for none; where it is left out, one whose name is
        known.

        Raises:
            UserError: If it names no argument.
        """
        if "refresh" not in self.suite:
            return next((key for key in REFRESH_KEYS if key in self.arguments), None)
        key: str | None = self.suite["refresh"]
        known = [name for name in self.arguments if not name.startswith("_")]
        if key is not None and key not in known:
            raise UserError(
                f"Invalid optimizer.{SUITE}.refresh: {key!r}. Must be null, or the argument that "
                f"says how many steps lie between two refreshes. {nearest(key, known)}"
            )
        return key

    @property
    def refresh_period(self) -> int:
        """Count the steps from one refresh to the next; 1 where all steps are alike."""
        period = self.arguments[self.refresh_key] if self.refresh_key else None
        # Some libraries have 0, or null, for never.
        return int(period) if isinstance(period, int | float) and period >= 1 else 1

    @property
    def ema(self) -> float | None:
        """Decay of an average of the weights, evaluated in their place; None: there is none.

        Raises:
            UserError: If it is none.
        """
        decay: float | None = self.suite.get("ema")
        if decay is not None and not 0 < decay < 1:
            raise UserError(
                f"Invalid optimizer.{SUITE}.ema: {decay}. Must be > 0 and < 1, as 0.999, or null."
            )
        return decay

    @property
    def steps_key(self) -> str | None:
        """Which argument gets the number of steps of the run; None: none, or it has a value."""
        key: str | None = self.suite.get("steps")
        return key if key is not None and self.arguments.get(key) is None else None

    @property
    def is_shardable(self) -> bool:
        """Whether it steps parameters that ``fully_shard`` has split."""
        return bool(self.suite.get("shardable", False))

    @property
    def stated_form(self) -> str | None:
        """In which form its step is computed, where none of its arguments says so."""
        return self.suite.get("form")

    @property
    def split_arguments(self) -> Values:
        """What its arguments are where ``fully_shard`` has split the parameters."""
        return self.suite.get("split") or {}

    @cached_property
    def schedule(self) -> Section | None:
        """The schedule that is part of the method, in whatever setting; None: the setting's.

        Raises:
            UserError: If it has no name.
        """
        stated = self.suite.get("schedule")
        if not stated:
            return None
        name = stated.get("name")
        if not isinstance(name, str) or not name.isidentifier():
            raise UserError(
                f"Invalid optimizer.suite.schedule: {stated}. Must have the name of a schedule, as "
                "{name: constant}, and its arguments."
            )
        own = {key: value for key, value in stated.items() if key != "name"}
        target = {"_target_": f"experiments.schedule.{name}", "_partial_": True}
        return Section({**own, **target}, {"name": name})

    @cached_property
    def hyperparameters(self) -> dict[str, Any]:
        """As of any section, and what of ``suite`` changes a method."""
        kept = {"keep_gradients": True} if self.needs.keep_gradients else {}
        own = {"schedule": dict(self.suite["schedule"])} if self.schedule else {}
        averaged = {} if self.ema is None else {"ema": self.ema}
        return super().hyperparameters | kept | own | averaged

    @cached_property
    def hashed_hyperparameters(self) -> dict[str, Any]:
        """Those that are not at a value that leaves the id as it is."""
        neutral = {f"optimizer.{key}": value for key, value in self.neutral.items()}
        return without_neutral(self.hyperparameters, "optimizer.", neutral)

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
        drop_last: Whether a last batch that is not full is left out.
        evaluate_every: Steps from one look to the next, in place of so many an epoch.
        train_limit: How many samples are trained on, a part that is always the same; None: all.
        validation_limit: The same of validation.

    Raises:
        UserError: If a number is not a positive whole one, or ``drop_last`` neither true nor false.
    """

    batch_size: int
    eval_batch_size: int
    evaluations_per_epoch: int
    drop_last: bool = False
    evaluate_every: int | None = None
    train_limit: int | None = None
    validation_limit: int | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "eval_batch_size", "evaluations_per_epoch"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"Invalid task.{name}: {value}. Must be a whole number >= 1.")
        for name in ("evaluate_every", "train_limit", "validation_limit"):
            value = getattr(self, name)
            if value is not None and not (type(value) is int and value >= 1):
                raise UserError(
                    f"Invalid task.{name}: {value}. Must be null, or a whole number >= 1."
                )
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


def made_of(kind: type[T], place: str, values: Values) -> T:
    """Make an object of the keys that a section has for it.

    Raises:
        UserError: If one of them is none of its.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"Invalid {place}: {values!r}. Must be a mapping.")
    known = [one.name for one in fields(kind)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise UserError(f"Unknown key: '{place}.{key}'. {nearest(key, known)}")
    return kind(**values)
