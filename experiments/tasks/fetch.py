"""Data sets, shown and fetched: `python -m experiments data task=cifar10,mnist data_dir=data`."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.config import arguments, commandline, refusals, targets
from experiments.config.nearest import nearest
from experiments.errors import UserError, refusal
from experiments.system.output import say

KEYS = ("task", "data_dir")


@dataclass(frozen=True)
class DataOptions:
    """Which data sets, by their tasks (or all), and where to."""

    task: tuple[str, ...]
    data_dir: Path = Path("data")


def main(words: Sequence[str]) -> int:
    """Provide every data set that was asked for; one that cannot be had does not stop the others.

    Returns:
        The exit code, 2 if one is not there in the end.
    """
    options, _ = arguments.parse(commandline.normalise(list(words)), DataOptions)
    modules = {name: _module(name) for name in options.task}
    failed = False
    for name, module in modules.items():
        try:
            provide(name, module, options.data_dir.absolute())
        except (UserError, OSError) as error:
            line = refusal(error)
            if line is None:
                raise
            say(f"error: {name}: {line}", error=True)
            failed = True
    return 2 if failed else 0


def provide(name: str, module: Any, data_dir: Path) -> None:
    """Say what the data set of a task is, then fetch it unless it is there and whole.

    Args:
        name: Name of the task.
        module: Its module, with ``SOURCE`` and ``check``.
        data_dir: The data folder.

    Raises:
        UserError: If it is not there and cannot be fetched.
    """
    from experiments.tasks.download import fetch

    source = module.SOURCE
    say(f"{name}: {source.title}")
    say(f"  size   {source.size}")
    say(f"  terms  {source.terms}")
    for remote in source.files:
        say(f"  from   {remote.url} ({remote.checksum})")
    if source.place:
        say(f"  to     {data_dir / source.place}")
    try:
        module.check(data_dir)
    except UserError as error:
        if not source.files:
            raise UserError(f"{error} {source.manual}") from None
    else:
        say("  present and verified")
        return
    fetch(source, data_dir, notify=lambda line: say(f"  {line}"))
    module.check(data_dir)
    say("  fetched and verified")


def _module(name: str) -> Any:
    known = commandline.choices("task")
    if name not in known:
        raise UserError(f"Unknown task: {name!r}. {nearest(name, known)}")
    section = refusals.load(commandline.CONF / "task" / f"{name}.yaml")
    targets.find("task", section.get("_target_"))
    return importlib.import_module(section["_target_"].rpartition(".")[0])
