"""One run's config, typed: made once where it is composed, and handed on.

A section of the config has the arguments of one object and, under ``suite``, what only the suite
reads. A run's id is a hash of the arguments and of the few keys of ``suite`` that say what is run.
"""

from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments.config.essence import Values, digest, essence
from experiments.config.sections import MethodSection, Section, TaskSection, made_of

FOLDERS = ("data_dir", "runs_dir", "cache_dir")


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
    judged_by: str | None = None
    device: str = "auto"
    precision: str = "fp32"
    loss_scale: float | None = None
    compile: bool = False
    channels_last: bool | str = "auto"
    distributed: str = "ddp"
    deterministic: bool = False
    curvature_by_layer: bool = False
    evaluate_test: bool | str = True
    threads: int | None = None
    jobs: int = 1
    runs_per_job: int = 1
    fresh: bool = False
    processes: int = 1
    memory_limit_gb: float | None = None
    retry: bool = False
    fail_fast: bool = False
    untuned: str = "refuse"
    tuning: dict[str, Any] | None = None
    recipe: str | None = None
    grids: list[Any] | None = None
    tune: list[Any] | None = None
    origin: dict[str, Any] | None = None
    debug: dict[str, Any] | None = None
    files: dict[str, dict[str, str]] | None = None

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
            "pretrained": made_of(Pretrained, "pretrained", values["pretrained"]),
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
