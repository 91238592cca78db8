"""Every record that was ever kept has the id of today's code, however its config is laid out."""

import json
from pathlib import Path

import pytest
import yaml

from experiments.config import identity
from experiments.config.compose import composed
from experiments.config.lift import lifted
from experiments.config.run_config import RunConfig
from experiments.records.schema import load_run

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "runs"
OLD = Path(__file__).with_name("old_layout.jsonl")
"""Configs of records that were kept once, a line each, with the id and identity that they had."""


def assert_has_its_id(config, run_id, recorded):
    config = RunConfig.of(lifted(config))
    assert config.run_id == run_id
    assert config.group_id == recorded["group_id"]
    assert config.optimizer.hyperparameters == recorded["hyperparameters"]
    assert identity.protocol(config) == recorded["protocol"]


def test_recorded_configs_have_the_id_that_they_had():
    records = sorted(path.parent for path in GOLDEN.glob("*/*/config.yaml"))
    assert len(records) >= 180
    for folder in records:
        config = yaml.safe_load((folder / "config.yaml").read_text())
        assert_has_its_id(config, folder.name, load_run(folder).identity)


def test_configs_of_the_layout_before_have_the_id_that_they_had():
    kept = [json.loads(line) for line in OLD.read_text("utf-8").splitlines()]
    assert len(kept) == 18
    for one in kept:
        assert "suite" not in one["config"]["optimizer"]
        assert_has_its_id(one["config"], one["run_id"], one["identity"])


@pytest.mark.parametrize("overrides", [[], ["task=ptb"], ["optimizer=kfac"]])
def test_a_config_of_today_stays_as_it_is(overrides):
    values = composed(overrides).values
    assert lifted(values) == values
