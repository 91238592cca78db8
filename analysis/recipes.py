"""What ``conf/`` says of the published rows: the experiment that reproduces one, and its protocol.

The files are read as data: plain YAML, without interpolation, in the few forms that
``conf/experiment/table*.yaml`` and what they choose are written in.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

CONF = Path(__file__).resolve().parents[1] / "conf"
KINDS = ("task", "model", "optimizer")
WORLD_SIZE = "${oc.env:WORLD_SIZE,1}"
HIDDEN = (
    "_target_",
    "_partial_",
    "name",
    "family",
    "needs",
    "defaults",
    "published_as",
    "search",
    "shardable",
)


@dataclass(frozen=True)
class Recipe:
    """One configuration of an experiment, whose runs with these seeds make a published row.

    Attributes:
        experiment: Name in ``conf/experiment``.
        table: Number of the published table.
        task: Name in ``conf/task``; ``model``, ``optimizer`` and ``tokenization`` likewise.
        setting: What the training starts from, or a pattern of it.
        ruleset: Where the hyperparameters come from.
        seeds: Seeds of the experiment.
        typed: Overrides that pick this configuration out of the experiment.
        published: Its task, model and optimizer as the published tables call them.
        conf: The folder that all of this stands in.
    """

    experiment: str
    table: int
    task: str
    model: str
    optimizer: str
    tokenization: str | None
    setting: str
    ruleset: str
    budget: str
    epochs: int | None
    seeds: tuple[int, ...]
    typed: tuple[str, ...]
    published: tuple[str | None, ...]
    conf: Path

    def covers(self, row: Mapping[str, Any]) -> bool:
        """Whether its runs carry the names of a published row."""
        names = (row["dataset"], row["model"], row["optimizer"])
        return (
            self.table == row["table"]
            and self.published == names
            and re.fullmatch(self.setting, row["setting"]) is not None
        )

    def command(self, row: Mapping[str, Any], seeds: Sequence[int] = ()) -> str:
        """The command that runs it: with the experiment's seeds, or with the ones given."""
        processes = re.fullmatch(r"(\d+)_gpu", row["setting"])
        if processes:
            torchrun = ["torchrun", "--standalone", f"--nproc-per-node={processes[1]}"]
            return shlex.join(
                [*torchrun, "-m", "experiments.train", f"experiment={self.experiment}"]
            )
        parts = ["python", "-m", "experiments.train", "-m", f"experiment={self.experiment}"]
        chosen = [f"seed={','.join(map(str, seeds))}"] if seeds else []
        return shlex.join([*parts, *self.typed, *chosen])

    def protocol(self, optimizer: str) -> dict[str, Any]:
        """Run columns that must have these values; ``optimizer`` is the run's own."""
        task = _read(self.conf / "task" / f"{self.task}.yaml")
        epochs = self.epochs
        if epochs is None:
            table = _read(self.conf / "budget" / f"{self.budget}.yaml").get("by_optimizer", {})
            epochs = table.get(optimizer, task.get("epochs"))
        wanted: dict[str, Any] = {
            "ruleset": self.ruleset,
            "budget": f"{epochs} epoch{'' if epochs == 1 else 's'}",
            "model": self.model,
            "schedule": _choice(task, "schedule"),
            "batch_size": task.get("batch_size"),
        }
        if self.tokenization:
            values = _visible(_read(self.conf / "tokenization" / f"{self.tokenization}.yaml"))
            settings = (f"{key}={value}" for key, value in values.items())
            wanted["tokenization"] = " ".join([self.tokenization, *settings])
        if "validation_fraction" in task:  # a text has a validation part of its own
            wanted["validation"] = False
        return wanted

    def hyperparameters(self, optimizer: str) -> dict[str, Any]:
        """The values of the ruleset, as far as they are written out."""
        model = _read(self.conf / "model" / f"{self.model}.yaml")
        family = _choice(model, "family") or "cnn"
        values = _read(self.conf / "optimizer" / f"{optimizer}.yaml")
        own = self.conf / self.ruleset / family / f"{optimizer}.yaml"
        values = {**values, **_read(own).get("optimizer", {})}
        return {key: value for key, value in _visible(values).items() if "${" not in str(value)}


def published(kind: str, name: str, conf: Path = CONF) -> str | None:
    """What a choice is called in the published tables; ``None`` if it is not in them."""
    value = _read(conf / kind / f"{name}.yaml").get("published_as")
    return None if value is None else str(value)


def recipes(conf: Path = CONF) -> list[Recipe]:
    """All configurations of ``conf/experiment/table*.yaml``, in order of the files."""
    return [
        recipe for path in sorted(conf.glob("experiment/table*.yaml")) for recipe in _of(path, conf)
    ]


def _of(path: Path, conf: Path) -> Iterator[Recipe]:
    content = _read(path)
    params = content.get("hydra", {}).get("sweeper", {}).get("params") or {}
    for grid in content.get("grids") or [{}]:
        varied = {key: _items(value) for key, value in {**grid, **params}.items()}
        seeds = tuple(int(seed) for seed in varied.pop("seed", ["0"]))
        telling = [key for key, values in varied.items() if len(values) > 1 or key in grid]
        for values in itertools.product(*varied.values()):
            chosen = dict(zip(varied, values, strict=True))
            typed = tuple(f"{key}={chosen[key]}" for key in telling)
            yield _recipe(path, chosen, conf, seeds=seeds, typed=typed)


def _recipe(
    path: Path,
    chosen: Mapping[str, str],
    conf: Path,
    *,
    seeds: tuple[int, ...],
    typed: tuple[str, ...],
) -> Recipe:
    content = _read(path)

    def name(group: str) -> str | None:
        return chosen.get(group) or _choice(content, group)

    task = _read(conf / "task" / f"{name('task')}.yaml")
    names = {kind: name(kind) or "" for kind in KINDS}
    names["model"] = names["model"] or _choice(task, "model") or ""
    number = re.match(r"table(\d+)", path.stem)
    return Recipe(
        experiment=path.stem,
        table=int(number[1]) if number else 0,
        **names,
        tokenization=name("tokenization") or _choice(task, "tokenization"),
        setting=_setting(content),
        ruleset=name("ruleset") or "default",
        budget=name("budget") or "epochs",
        epochs=content.get("budget", {}).get("epochs"),
        seeds=seeds,
        typed=typed,
        published=tuple(published(kind, names[kind], conf) for kind in KINDS),
        conf=conf,
    )


def _setting(content: Mapping[str, Any]) -> str:
    """A pattern of the settings that an experiment has, in the words of ``published.csv``."""
    if content.get("setting"):
        return r"\d+".join(map(re.escape, str(content["setting"]).split(WORLD_SIZE)))
    source = content.get("pretrained", {}).get("source")
    return "imagenet_pretrained" if source == "imagenet" else "scratch"


def _choice(content: Mapping[str, Any], group: str) -> str | None:
    """What a file's defaults list chooses of a group: ``override /group[@package]: choice``."""
    for item in content.get("defaults", []):
        for key, value in item.items() if isinstance(item, dict) else ():
            if key.split("/")[-1].split("@")[0] == group:
                return str(value)
    return None


def _visible(section: Mapping[str, Any]) -> dict[str, Any]:
    """A section without what is no setting, as a run's identity has it."""
    return {key: value for key, value in section.items() if key not in HIDDEN}


def _items(value: Any) -> list[str]:
    return [item.strip() for item in str(value).split(",")]


@cache
def _read(path: Path) -> dict[str, Any]:
    """A YAML file; one that is not there is empty."""
    if not path.is_file():
        return {}
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}
