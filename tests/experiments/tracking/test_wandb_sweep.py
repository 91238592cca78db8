"""The sweep that W&B drives: its file is well-formed, and its keys are overrides of the suite."""

from typing import Any

import yaml

from experiments.config import commandline
from experiments.sweep import preflight

SWEEP = yaml.safe_load((commandline.CONF / "wandb_sweep.yaml").read_text(encoding="utf-8"))


def values(parameter: dict[str, Any]) -> list[Any]:
    """What W&B may draw: every choice, or both ends of a distribution."""
    if "value" in parameter:
        return [parameter["value"]]
    return parameter.get("values") or [parameter["min"], parameter["max"]]


def test_it_has_what_wandb_asks_for():
    assert SWEEP["method"] in ("grid", "random", "bayes")
    assert SWEEP["metric"]["goal"] in ("minimize", "maximize")
    assert SWEEP["run_cap"] > 0
    assert (commandline.CONF.parent / SWEEP["program"]).is_file()
    # Without the hyphens of ${args}, which are no overrides of Hydra's.
    module = ["-m", "experiments.train", "${args_no_hyphens}"]
    assert SWEEP["command"] == ["${env}", "${interpreter}", *module]
    for parameter in SWEEP["parameters"].values():
        assert set(parameter) <= {"value", "values", "distribution", "min", "max"}


def test_every_key_and_every_value_is_an_override(tmp_path):
    drawn = {key: values(parameter) for key, parameter in SWEEP["parameters"].items()}
    overrides = [f"{key}={','.join(map(str, choices))}" for key, choices in drawn.items()]
    config = preflight.check([*overrides, f"runs_dir={tmp_path}"])
    assert len(commandline.jobs(overrides)) == len(drawn["optimizer"]) * len(drawn["optimizer.lr"])
    assert config.tracking["_target_"] == "experiments.tracking.wandb.start"
    assert config.task.arguments["validation_fraction"] > 0  # what the sweep optimises is measured
