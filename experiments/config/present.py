"""Which tasks can be run here: those that read data, and find them."""

import importlib
from collections.abc import Sequence
from pathlib import Path

import yaml

from experiments.errors import UserError

HERE = "here"
"""What is typed for them, as ``task=here``."""


def tasks(names: Sequence[str], conf: Path, overrides: Sequence[str]) -> list[str]:
    """Pick the tasks whose data are there; one that is made up, as a function, reads none.

    Args:
        names: All there are.
        conf: Where their files are.
        overrides: What is typed; ``data_dir=`` of it says where the data are looked for.

    Raises:
        UserError: If there is none.
    """
    typed = [item.partition("=")[2] for item in overrides if item.startswith("data_dir=")]
    folder = Path((typed or ["data"])[-1].strip("\"'")).expanduser().absolute()
    found = [name for name in names if _is_there(conf / "task" / f"{name}.yaml", folder)]
    if not found:
        raise UserError(f"Invalid task: {HERE}. No task has its data in {folder}.")
    return found


def _is_there(path: Path, folder: Path) -> bool:
    target = str(yaml.safe_load(path.read_text(encoding="utf-8"))["_target_"])
    module = importlib.import_module(target.rpartition(".")[0])
    if module.SOURCE.made_up:
        return False
    try:
        module.check(folder)
    except (UserError, OSError):
        return False
    return True
