"""Resolved configs and runs for the tests of the engine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments import commandline, preflight

Config = dict[str, Any]


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., Config]:
    """A config of a few steps on digits whose folders lie below ``tmp_path``."""

    def make(*overrides: str) -> Config:
        has_budget = any(item.startswith("budget=") for item in overrides)
        short = [] if has_budget else ["budget=steps", "budget.steps=4"]
        defaults = [
            "tracking=none",
            "optimizer=adam",
            "threads=1",
            f"runs_dir={tmp_path / 'runs'}",
            f"cache_dir={tmp_path / 'cache'}",
        ]
        return preflight.composed(commandline.normalise([*defaults, *short, *overrides]))

    return make
