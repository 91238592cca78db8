"""What one config is looked at for, before anything starts: its values, weights and files."""

import importlib
from inspect import signature
from pathlib import Path
from typing import Any

from experiments.config import commandline
from experiments.errors import UserError

Config = dict[str, Any]


def inspect(config: Config) -> None:
    """Try out every section of a config, but for the data.

    The optimizer is made once, for a model of one layer, so that it refuses bad values now.

    Raises:
        UserError: At the first value that no run can have.
    """
    import torch

    from experiments.config import budget
    from experiments.engine import build, compute
    from experiments.run import control
    from experiments.timing import calibration
    from experiments.tracking import mirror

    mirror.check(config["tracking"])
    build.sizes(config["task"])
    budget.check(config["budget"])
    calibration.check(config)
    compute.resolve(config)
    control.check(config)
    _check_pretrained(config)
    build.build_optimizer(config["optimizer"], torch.nn.Linear(2, 2))
    _check_tokenization(config)


def find_data(section: Config, data_dir: Path) -> None:
    """Ask a section's module, if it has a ``check``, whether the files that it reads are there.

    Args:
        section: That of a task, a tokenization or a model.
        data_dir: Where the files should be.

    Raises:
        UserError: If one is missing.
    """
    module = importlib.import_module(section["_target_"].rpartition(".")[0])
    check = getattr(module, "check", None)
    if check is not None:
        accepted = signature(check).parameters
        known = {"data_dir": data_dir, **section}
        check(**{key: value for key, value in known.items() if key in accepted})


def _check_pretrained(config: Config) -> None:
    """Find the pretrained weights, or download them, before the first run."""
    from experiments.models import transfer

    transfer.check_share(config["pretrained"]["minimum_percent"])
    source = config["pretrained"]["source"]
    if source is not None:
        transfer.locate(
            source,
            model=config["model"]["name"],
            weights=config["model"].get("weights"),
            data_dir=Path(config["data_dir"]),
        )


def _check_tokenization(config: Config) -> None:
    """Refuse a tokenisation of images, and text without one."""
    module, _, builder = config["task"]["_target_"].rpartition(".")
    wanted = signature(getattr(importlib.import_module(module), builder)).parameters
    task, chosen = config["task"]["name"], config.get("tokenization")
    if chosen and "tokenization" not in wanted:
        raise UserError(f"Invalid tokenization: {chosen['name']!r}. task={task} has no text.")
    if not chosen and "tokenization" in wanted:
        known = ", ".join(commandline.choices("tokenization"))
        raise UserError(f"Invalid tokenization: None. task={task} must have one of: {known}.")
