import inspect
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from experiments.config.sections import Batching

CONF = Path(__file__).parents[3] / "conf" / "task"
SUITE_KEYS = {"defaults", "_target_", "_partial_", "suite"}
BATCHING = {one.name for one in fields(Batching)}
FILES = sorted(CONF.glob("*.yaml"))
CNN_TASKS = {"digits", "mnist", "cifar10", "cifar10_jpeg", "cifar100"}
CNN_TASKS |= {"tiny_imagenet", "tiny_imagenet_val", "imagenet1k"}
LANGUAGE_TASKS = {"tinyshakespeare", "wikitext2", "ptb", "generated_text"}


def test_the_tasks_of_the_suite_are_there():
    assert {path.stem for path in FILES} >= CNN_TASKS | LANGUAGE_TASKS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_config_gives_every_argument_and_no_other(path):
    config = yaml.safe_load(path.read_text())
    module, builder = config["_target_"].rsplit(".", 1)
    arguments = inspect.signature(getattr(import_module(module), builder)).parameters
    given = set(config) - SUITE_KEYS - BATCHING
    text = {"tokenization"} if path.stem in LANGUAGE_TASKS else set()
    assert set(arguments) == given | {"data_dir", "cache_dir"} | text
    assert set(config) >= SUITE_KEYS | BATCHING
    assert {"published_as", "epochs", "threads"} <= set(config["suite"])
    assert config["suite"]["name"] == path.stem
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_check_takes_the_same_keywords(path):
    config = yaml.safe_load(path.read_text())
    check = import_module(config["_target_"].rsplit(".", 1)[0]).check
    keywords = {k: v for k, v in config.items() if k not in SUITE_KEYS | BATCHING}
    inspect.signature(check).bind(Path(), **keywords)


def test_only_the_official_data_sets_join_published_rows():
    """A lossy copy or a part of a data set is never printed beside the paper's numbers of it."""
    joined = {
        path.stem: yaml.safe_load(path.read_text())["suite"]["published_as"] for path in FILES
    }
    images = {name: joined[name] for name in CNN_TASKS if joined[name] is not None}
    assert images == {name: name for name in ("cifar10", "cifar100", "imagenet1k")}
