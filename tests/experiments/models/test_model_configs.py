import inspect
from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import get_object

from experiments import build

CONF = Path(__file__).parents[3] / "conf" / "model"
SUITE_KEYS = {"defaults", "_target_", "_partial_", *build.SUITE_KEYS["model"]}
FILES = sorted(CONF.glob("*.yaml"))
TASK_ARGUMENTS = [
    {"in_channels", "num_classes", "image_size"},
    {"vocab_size", "context"},
]


def test_the_models_of_the_suite_are_there():
    assert {"small_cnn", "resnet18", "gpt_tiny", "gpt1_mini"} <= {path.stem for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_config_gives_every_hyperparameter_and_no_other(path):
    config = yaml.safe_load(path.read_text())
    target = get_object(config["_target_"])
    arguments = set(inspect.signature(target).parameters)
    given = set(config) - SUITE_KEYS
    assert any(arguments == given | of_the_task for of_the_task in TASK_ARGUMENTS)
    assert config["name"] == path.stem
    assert config["_partial_"] is True
    assert {"published_as", "parameters"} <= set(config)
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_config_builds_its_model(path):
    config = yaml.safe_load(path.read_text())
    target = get_object(config["_target_"])
    keywords = {key: value for key, value in config.items() if key not in SUITE_KEYS}
    if "weights_dir" in keywords:
        pytest.skip("reads a file that is not shipped; its own test writes one")
    is_language = "context" in inspect.signature(target).parameters
    sizes = (
        {"vocab_size": 9, "context": 4}
        if is_language
        else {"in_channels": 3, "num_classes": 9, "image_size": 8}
    )
    model = target(**sizes, **keywords)
    inputs = torch.zeros(2, 4, dtype=torch.int64) if is_language else torch.zeros(2, 3, 8, 8)
    with torch.no_grad():
        assert model(inputs).shape == ((2, 4, 9) if is_language else (2, 9))
