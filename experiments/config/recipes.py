"""What the published tables are run with, for the report: `python -m experiments recipes`.

Composes every job of ``conf/experiment/table*.yaml`` as a sweep does, and every task's defaults,
and writes them into one JSON file. It is all that ``analysis`` knows of ``conf/``, which Hydra
alone can read. A test holds it fresh.
"""

import contextlib
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from experiments.config import (
    arguments,
    budget,
    commandline,
    compose,
    compositions,
    grids,
    identity,
)
from experiments.config.compositions import Composition
from experiments.config.run_config import RunConfig
from experiments.config.sourced import sourced
from experiments.errors import UserError
from experiments.system.output import say

Config = dict[str, Any]

FILE = commandline.CONF.parent / "analysis" / "published" / "recipes.json"
ABOUT = "Made from conf/ by `python -m experiments recipes`; not edited by hand."
KINDS = ("task", "model", "optimizer")
PROCESSES = "7919"  # a number of processes that a setting has from nowhere else
ANY = "*"  # what stands in a setting for the number of processes
SMALL = 60  # letters of a section that is written out in every entry
WIDTH = 150  # letters of a line of the file


class Blocks:
    """Mappings that many entries share, each under a name."""

    def __init__(self) -> None:
        self.named: dict[str, Any] = {}

    def add(self, name: str, content: Any) -> str:
        """Keep a mapping; returns its name, with a number where another one has that name."""
        numbered = (f"{name} #{number}" for number in itertools.count(2))
        return next(
            candidate
            for candidate in itertools.chain([name], numbered)
            if self.named.setdefault(candidate, content) == content
        )


class Mapped:
    """Collects what the report has to know of ``conf/``."""

    def __init__(self) -> None:
        self.sections, self.hyperparameters = Blocks(), Blocks()
        self.neutral: dict[str, Config] = {}

    def content(self) -> Config:
        """Everything, as the file has it.

        Raises:
            UserError: If a task or an experiment does not compose.
        """
        experiments = sorted((commandline.CONF / "experiment").glob("table*.yaml"))
        with _processes(PROCESSES):
            tasks = {name: self._task(name) for name in commandline.choices("task")}
            recipes = [entry for path in experiments for entry in self._experiment(path.stem)]
        return {
            "about": ABOUT,
            "published_as": self.published_as,
            "tasks": tasks,
            "recipes": recipes,
            "epochs": _epochs(),
            "learning_rates": _learning_rates(),
            "neutral": self.neutral,
            "hyperparameters": self.hyperparameters.named,
            "sections": self.sections.named,
        }

    @cached_property
    def published_as(self) -> dict[str, dict[str, str | None]]:
        """What each choice is called in the published tables; None: it is not in them."""
        return {
            kind: {name: _published_as(kind, name) for name in commandline.choices(kind)}
            for kind in KINDS
        }

    def _task(self, name: str) -> Config:
        """Compose a task's default setting."""
        made = compositions.of([f"task={name}"])
        config = compose.resolve(made)
        return {
            "model": config.model.name,
            "tokenization": identity.tokenization(config),
            "budget": budget.describe(config.budget),
            "batch_size": config.task.batching.batch_size,
            "schedule": config.schedule.name,
            "precision": config.precision,
            **self._protocol(config, made.choices),
        }

    def _experiment(self, name: str) -> list[Config]:
        """Make an entry for each setting of an experiment, with the methods that it runs there."""
        with _naming(name):
            jobs = _jobs(name)
            counts = Counter(item for job in jobs for item in job)
            merged: dict[str, Config] = {}
            for job, seeds in jobs.items():
                made = compositions.of(job)
                shared, optimizer, method = self._entry(name, made, seeds)
                varied = [item for item in job if counts[item] < len(jobs)]
                entry = merged.setdefault(json.dumps(shared), shared)
                entry.setdefault("methods", {})[optimizer] = {"typed": varied, **method}
                beside = entry.setdefault("beside", {})
                for other in self._other_rules(method["published"]):
                    moved = compositions.of(_with_optimizer(job, other))
                    *_, beside[other] = self._entry(name, moved, seeds)
                    del beside[other]["published"]
            return list(merged.values())

    def _entry(
        self, experiment: str, made: Composition, seeds: Sequence[int]
    ) -> tuple[Config, str, Config]:
        """Tell what a job shares with the other methods of its setting, its method, and its own."""
        config = compose.resolve(made)
        names = identity.published_as(config)
        number = re.match(r"table(\d+)", experiment)
        shared = {
            "experiment": experiment,
            "recipe": config.recipe or "",
            "table": int(number[1]) if number else 0,
            "task": config.task.name,
            "model": config.model.name,
            "published": {kind: names[kind] for kind in KINDS[:2]},
            "setting": identity.setting(config).replace(PROCESSES, ANY),
            "ruleset": config.ruleset,
            "seeds": list(seeds),
            **self._protocol(config, made.choices),
        }
        method = {
            "published": names["optimizer"],
            "budget": budget.describe(config.budget),
            "hyperparameters": self._hyperparameters(config, made.choices),
        }
        return shared, config.optimizer.name, method

    def _protocol(self, config: RunConfig, choices: Mapping[str, str | None]) -> Config:
        """Give a protocol without its methods' epochs: sections with a choice go by its name."""
        protocol = identity.protocol(config)
        if budget.TABLE in protocol["budget"]:
            del protocol["budget"]["epochs"]
        del protocol["setting"]  # which may hold a number of processes, and has a place of its own
        named = [key for key in protocol if key in choices and len(str(protocol[key])) > SMALL]
        return {
            "protocol": {key: item for key, item in protocol.items() if key not in named},
            "sections": {
                key: self.sections.add(f"{key}/{choices[key]}", protocol[key]) for key in named
            },
        }

    def _other_rules(self, published: str | None) -> list[str]:
        """List the rules that go by a published name without being the published method."""
        return [
            name
            for name, said in self.published_as["optimizer"].items()
            if said is None and published and f"{name}_".startswith(f"{published}_")
        ]

    def _hyperparameters(self, config: RunConfig, choices: Mapping[str, str | None]) -> str:
        method = config.optimizer
        found = method.hyperparameters
        # Of `needs` that gradients are kept is a hyperparameter, where it is true.
        stated = {key.removeprefix("needs."): value for key, value in method.neutral.items()}
        neutral = {k: v for k, v in stated.items() if k in found or k == "keep_gradients"}
        if neutral:
            self.neutral[method.name] = neutral
        name = f"{config.ruleset}/{choices['family']}/{method.name}"
        return self.hyperparameters.add(name, found)


def _jobs(experiment: str) -> dict[tuple[str, ...], list[int]]:
    """Collect the jobs of an experiment's sweep without their seeds, and the seeds of each."""
    found: dict[tuple[str, ...], list[int]] = {}
    for grid in grids.spelled_out([f"experiment={experiment}"]):
        for job in commandline.jobs(grid):
            own = [item for item in job if not item.startswith("hydra.")]
            seeds = [item.removeprefix("seed=") for item in own if item.startswith("seed=")]
            rest = tuple(item for item in own if not item.startswith("seed="))
            found.setdefault(rest, []).append(_seed(seeds))
    return found


def _seed(typed: Sequence[str]) -> int:
    text = typed[-1] if typed else "0"
    if not text.isdecimal():
        raise UserError(f"Invalid seed: {text}. Must be a whole number >= 0.")
    return int(text)


def _published_as(kind: str, name: str) -> str | None:
    content: Any = OmegaConf.load(commandline.CONF / kind / f"{name}.yaml")
    said: str | None = content.suite.get("published_as")
    return said


def _with_optimizer(job: Sequence[str], name: str) -> list[str]:
    return [*(item for item in job if not item.startswith("optimizer=")), f"optimizer={name}"]


def _epochs() -> Config:
    """Epochs of Table 8 with their sources, by family (cifar, imagenet, lm) and optimizer."""
    files = sorted((commandline.CONF / "budget").glob("paper_*.yaml"))
    return {path.stem.removeprefix("paper_"): sourced(path, budget.TABLE) for path in files}


def _learning_rates() -> Config:
    """Learning rates of the paper's ruleset with their sources, by family and optimizer."""
    found: Config = {}
    for path in sorted((commandline.CONF / "paper").glob("*/*.yaml")):
        values = sourced(path, "optimizer")
        if "lr" in values:
            found.setdefault(path.parent.name, {})[path.stem] = values["lr"]
    return found


@contextlib.contextmanager
def _naming(experiment: str) -> Iterator[None]:
    """Say which experiment a mistake is in."""
    try:
        yield
    except UserError as error:
        raise UserError(f"conf/experiment/{experiment}.yaml: {error}") from error


@contextlib.contextmanager
def _processes(count: str) -> Iterator[None]:
    """Have configs resolved as by a launcher of so many processes."""
    before = os.environ.get("WORLD_SIZE")
    os.environ["WORLD_SIZE"] = count
    try:
        yield
    finally:
        del os.environ["WORLD_SIZE"]
        if before is not None:
            os.environ["WORLD_SIZE"] = before


def text_of(value: Any, indent: int = 0) -> str:
    """JSON with one line for what fits on one, so that a change shows as few lines."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or len(line) + indent <= WIDTH:
        return line
    inner = " " * (indent + 1)
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {text_of(item, indent + 1)}" for key, item in value.items()]
        begin, end = "{", "}"
    else:
        parts = [text_of(item, indent + 1) for item in value]
        begin, end = "[", "]"
    return f"{begin}\n{inner}" + f",\n{inner}".join(parts) + f"\n{' ' * indent}{end}"


@dataclass(frozen=True)
class RecipesOptions:
    """Where the file is written."""

    file: Path = FILE


def main(words: Sequence[str]) -> int:
    """Write the file; returns the exit code."""
    options, _ = arguments.parse(words, RecipesOptions)
    content = Mapped().content()
    options.file.write_text(text_of(content) + "\n", encoding="utf-8")
    say(f"{options.file}: {len(content['recipes'])} settings of published tables")
    return 0
