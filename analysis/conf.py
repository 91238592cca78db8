"""What the configuration says of budgets and hyperparameters, with the source beside each value.

Read as data from ``conf/``: the files state the source of a value in the comment on its line.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CONF = Path(__file__).parent.parent / "conf"
_SOURCED = re.compile(r"^\s+(?P<key>\w+):\s*(?P<value>[^#]*?)\s*(?:#\s*(?P<source>.*))?$")


@dataclass(frozen=True)
class Sourced:
    """A value of a configuration file.

    Attributes:
        value: As YAML reads it.
        source: The comment on its line; empty where there is none.
    """

    value: Any
    source: str


def paper_epochs() -> dict[str, dict[str, Sourced]]:
    """Epochs of Table 8 by family (``cifar``, ``imagenet``, ``lm``) and optimizer."""
    return {
        path.stem.removeprefix("paper_"): {
            key: value
            for key, value in _lines(path, "by_optimizer")
            if isinstance(value.value, int)
        }
        for path in sorted((CONF / "budget").glob("paper_*.yaml"))
    }


def learning_rates(ruleset: str) -> dict[str, dict[str, Sourced]]:
    """The ``lr`` of each file of a ruleset, by its folder (a family or a task) and optimizer."""
    found: dict[str, dict[str, Sourced]] = {}
    for path in sorted((CONF / ruleset).glob("*/*.yaml")):
        rates = [value for key, value in _lines(path, "optimizer") if key == "lr"]
        if rates:
            found.setdefault(path.parent.name, {})[path.stem] = rates[0]
    return found


def _lines(path: Path, section: str) -> Iterator[tuple[str, Sourced]]:
    inside = False
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line[0].isspace() and not line.startswith("#"):
            inside = line.startswith(f"{section}:")
        match = _SOURCED.match(line) if inside else None
        if match and match["value"]:
            # YAML 1.1 takes 1e-3 for text; JSON's and OmegaConf's number is meant.
            value = yaml.safe_load(match["value"])
            if isinstance(value, str):
                with contextlib.suppress(ValueError):
                    value = float(value)
            yield match["key"], Sourced(value, match["source"] or "")
