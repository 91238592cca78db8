"""The suite from Python: ``run`` trains one config, ``analysis.api`` reads and draws records."""

import os
from collections.abc import Mapping
from typing import Any

from experiments.config import commandline, compose, grids
from experiments.errors import UserError
from experiments.records.outcome import EXIT_CODES
from experiments.records.schema import BrokenRecordError, Run, load_run
from experiments.sweep import launching


def run(config: Mapping[str, Any]) -> Run:
    """Train one config in a process of its own; one that is done is read, and not trained again.

    It is the run of ``python -m experiments train`` with the same keys, with the same id.

    Args:
        config: The values, by the keys of the command line: names of ``conf/`` and dotted keys, as
            ``{"task": "digits", "optimizer": "adam", "optimizer.lr": 0.01, "seed": 0}``.

    Returns:
        Its record. A failure or a divergence is a ``status`` with its ``reason``, and raises
        nothing.

    Raises:
        UserError: If something in the config is wrong, before anything is trained.
        KeyboardInterrupt: If it was told to stop; its state is saved, and the same call goes on.
    """
    overrides = commandline.normalise([f"{key}={_typed(key, config[key])}" for key in config])
    commandline.single(overrides)
    grids.check_single(overrides)
    made = compose.composed(overrides)
    if launching.launch(overrides) == EXIT_CODES["interrupted"]:
        raise KeyboardInterrupt
    try:
        return load_run(made.runs_dir / made.run_id)
    except BrokenRecordError as error:
        raise UserError(f"{made.label} has no record; the lines above say why: {error}.") from error


def _typed(key: str, value: Any) -> str:
    """Write a value as it is typed: the name of a choice is no text in quotes."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str) and key in commandline.GROUPS:
        return value
    return commandline.quoted(value.item() if hasattr(value, "item") else value)  # as numpy's
