"""Every record that was ever kept has the id of today's code, however its config is laid out."""

from pathlib import Path

import pytest
import yaml

from experiments.config import identity
from experiments.config.compose import composed
from experiments.config.lift import lifted
from experiments.config.run_config import RunConfig
from experiments.records.schema import load_run

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "runs"
RECORDS = sorted(path.parent for path in GOLDEN.glob("*/*/config.yaml"))


def test_recorded_configs_have_the_id_that_they_had():
    assert len(RECORDS) >= 180
    for folder in RECORDS:
        config = RunConfig.of(lifted(yaml.safe_load((folder / "config.yaml").read_text())))
        recorded = load_run(folder).identity
        assert config.run_id == folder.name
        assert config.group_id == recorded["group_id"]
        assert config.optimizer.hyperparameters == recorded["hyperparameters"]
        assert identity.protocol(config) == recorded["protocol"]


@pytest.mark.parametrize("overrides", [[], ["task=ptb"], ["optimizer=kfac"]])
def test_a_config_of_today_stays_as_it_is(overrides):
    values = composed(overrides).values
    assert lifted(values) == values
