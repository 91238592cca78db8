"""A run that starts from a file: its record, its resumption, and what is refused before it."""

import hashlib
import json
import os
import signal
from pathlib import Path

import pytest
import torch

from experiments.config import identity
from experiments.config.commandline import normalise
from experiments.engine.build import build, build_task
from experiments.engine.loop import Trainer
from experiments.errors import UserError
from experiments.models.small_cnn import SmallCNN
from experiments.records.schema import load_run
from experiments.run import run
from experiments.sweep import preflight


def save_weights(path: Path, *, seed: int = 9) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    state = SmallCNN(in_channels=1, num_classes=10, image_size=8).state_dict()
    torch.save(state, path)
    return state


def record_of(config):
    return load_run(config.runs_dir / config.run_id)


def environment_of(config):
    return json.loads((record_of(config).path / "environment.json").read_text())


def test_the_weights_of_the_file_are_the_models(make_config, tmp_path):
    state = save_weights(tmp_path / "w.pt")
    built = build(make_config(f"pretrained.source={tmp_path / 'w.pt'}"))
    found = built.model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in found.items())
    scratch = build(make_config()).model.state_dict()
    assert not torch.equal(scratch["classifier.weight"], state["classifier.weight"])


def test_a_run_records_what_it_started_from(make_config, tmp_path, capsys):
    path = tmp_path / "w.pt"
    save_weights(path)
    config = make_config(f"pretrained.source={path}")
    assert run.execute(config).status == "done"
    assert record_of(config).identity["setting"] == "pretrained"
    facts = environment_of(config)["pretrained"]
    assert facts == {
        "source": str(path),
        "file": "w.pt",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "percent": 100.0,
        "left": [],
        "unused": [],
    }
    assert "100.00 % of the parameters loaded from w.pt" in capsys.readouterr().err
    plain = make_config()
    run.execute(plain)
    assert record_of(plain).identity["setting"] == "scratch"
    assert environment_of(plain)["pretrained"] is None


def test_the_setting_is_that_of_the_published_table(make_config):
    config = make_config("pretrained.source=imagenet")
    task = build_task(config)
    assert identity.describe(config, task)["setting"] == "imagenet_pretrained"


def test_the_id_knows_the_source_but_not_the_permission(make_config):
    scratch, file = make_config(), make_config("pretrained.source=w.pt")
    lenient = make_config("pretrained.source=w.pt", "pretrained.minimum_percent=10.5")
    assert scratch.run_id != file.run_id == lenient.run_id


@pytest.fixture
def interrupted(make_config, tmp_path, monkeypatch):
    path = tmp_path / "w.pt"
    save_weights(path)
    config = make_config(f"pretrained.source={path}")
    step = Trainer._step

    def signalled(trainer, inputs, targets):
        if trainer.counters.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(trainer, inputs, targets)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", signalled)
        assert run.execute(config).status == "interrupted"
    return config, path


def test_a_run_does_not_resume_under_other_weights(interrupted):
    config, path = interrupted
    began = environment_of(config)["pretrained"]["sha256"]
    save_weights(path, seed=10)
    with pytest.raises(UserError, match=f"began from {began}"):
        run.execute(config)
    assert environment_of(config)["pretrained"]["sha256"] == began
    save_weights(path)
    assert run.execute(config).status == "done"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["pretrained.source=none.pt"], r"Invalid pretrained\.source: 'none\.pt'\. No such file"),
        (["pretrained.source=imagenet"], r"no weights of the definition model=small_cnn"),
        (["pretrained.source=7"], r"Invalid pretrained\.source: 7\. No such file"),
        (
            ["pretrained.source=imagenet", "model=cct_2_3x2"],
            r"no weights of the definition model=cct_2_3x2",
        ),
        (["pretrained.minimum_percent=x"], r"Invalid pretrained\.minimum_percent: 'x'"),
        (["pretrained.minimum_percent=200"], r"Invalid pretrained\.minimum_percent: 200"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_before_the_first_run(overrides, message, tmp_path):
    folders = [f"runs_dir={tmp_path / 'runs'}", f"data_dir={tmp_path / 'data'}"]
    with pytest.raises(UserError, match=message) as caught:
        preflight.check(normalise(["optimizer=adam", *folders, *overrides]))
    assert "\n" not in str(caught.value)
