"""What holds for every mirror: it is chosen by its YAML, and no fault in it reaches the run."""

import logging
import unittest
from pathlib import Path

import pytest

from experiments.config import commandline
from experiments.run import run
from experiments.tracking import mirror


class Broken(mirror.Mirror):
    def __init__(self, at):
        self.at = at

    def log(self, row):
        if self.at == "log":
            raise RuntimeError("no log\ntoday")

    def finish(self, summary, *, failed):
        if self.at == "finish":
            raise RuntimeError("no finish")


@pytest.mark.parametrize("at", ["start", "log", "finish"])
def test_a_fault_is_a_warning_and_the_run_ends_well(make_config, monkeypatch, at):
    def start(*, subject, mode, project, entity):
        if at == "start":
            raise RuntimeError("no start")
        return Broken(at)

    monkeypatch.setattr("experiments.tracking.wandb.start", start)
    with unittest.TestCase().assertLogs(level=logging.WARNING) as logs:
        outcome = run.execute(make_config("tracking=wandb"))
    assert outcome.status == "done"
    assert any(f"no {at}" in line for line in logs.output)
    assert all("\n" not in record.getMessage() for record in logs.records)


@pytest.mark.parametrize("name", commandline.choices("tracking"))
def test_every_choice_passes_its_own_check(make_config, name):
    mirror.check(make_config(f"tracking={name}").tracking)


def test_records_from_before_a_mirror_had_a_target_have_none(make_config):
    config = make_config()
    config = config.having(tracking={"mode": "auto", "project": "p", "entity": None})
    assert run.execute(config).status == "done"


def test_a_control_has_a_name_of_its_own(make_config):
    facts = {"task": "t", "model": "m", "optimizer": "o", "ruleset": "r", "seed": 0}
    names = [
        mirror.subject_of_run(
            "id",
            identity={**facts, "group_id": "g", **control},
            config={},
            folder=Path("runs/id"),
            rows=(),
        ).name
        for control in ({}, {"control": None}, {"control": "scalar"})
    ]
    assert names == ["t-o-seed0", "t-o-seed0", "t-o-scalar_control-seed0"]
