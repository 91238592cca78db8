"""What has more behind it is not replaced by less, and what to type then does what it says."""

import shlex
import subprocess

import pytest
import yaml

from experiments.config import commandline, compose
from experiments.tuning import tuned_file

FACTS = {
    "trials": 16,
    "seeds": [1000, 1001, 1002],
    "budget": "20 epochs",
    "steps": 360,
    "model": "small_cnn",
    "tokenization": None,
}
ONCE = {"trials": 8, "seeds": [1000], "budget": "20 epochs", "steps": None}  # of an older version


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tuned_file, "TUNED", tmp_path / "with a space")
    return tmp_path / "with a space" / "digits"


def write(text, facts):
    content = yaml.safe_dump({"name": text, "tuning": facts})
    return tuned_file.write("digits", "sgd", text=content, ledger=f"ledger {text}", facts=facts)


def name_in(path):
    return yaml.safe_load(path.read_text())["name"]


@pytest.mark.parametrize(
    "old",
    [
        {**FACTS, "pruner": "halving"},
        FACTS,
        {**FACTS, **ONCE},
        {key: value for key, value in {**FACTS, **ONCE}.items() if key != "steps"},
        {**FACTS, "budget": "200 steps", "steps": 200},
        {**FACTS, "trials": 32, "failed": 16},  # which say nothing
    ],
)
def test_what_has_no_more_behind_it_is_replaced(folder, old):
    write("old", old)
    path, kept = write("new", FACTS)
    assert (path, kept) == (folder / "sgd.yaml", "")
    assert name_in(path) == "new"
    assert (folder / "ledgers" / "sgd.yaml").read_text() == "ledger new"
    assert sorted(item.name for item in folder.iterdir()) == ["ledgers", "sgd.yaml"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"trials": 32}, "32 trials, not 16"),
        ({"trials": 40, "failed": 16}, "24 trials, not 16"),
        ({"seeds": [1, 2, 3, 4], "trials": 8}, "4 seeds, not 3"),
        ({"budget": "40 epochs", "steps": 720}, "720 steps, not 360"),
        ({"steps": 1440}, "1440 steps, not 360"),  # as many epochs of smaller batches
        ({"budget": "40 epochs", "steps": None}, "budget 40 epochs, not 20 epochs"),
        ({"model": "resnet18"}, "model resnet18, not small_cnn"),
        ({"tokenization": "word"}, "tokenization word, not None"),
        ({"trials": 32, "seeds": [1, 2, 3, 4]}, "32 trials, not 16; 4 seeds, not 3"),
        ({"trials": "many"}, "it does not say what effort is behind it"),
    ],
)
def test_what_has_more_stays_and_the_new_one_can_be_taken(folder, changes, why):
    folder.joinpath("ledgers").mkdir(parents=True)
    old = {"name": "old", "tuning": {**FACTS, **changes}}
    (folder / "sgd.yaml").write_text(yaml.safe_dump(old))
    (folder / "ledgers" / "sgd.yaml").write_text("ledger old")
    path, kept = write("new", FACTS)
    assert kept.startswith(f"{folder / 'sgd.yaml'} stays: {why}. To take the new one: (cd ")
    assert "\n" not in kept
    assert (name_in(folder / "sgd.yaml"), name_in(path)) == ("old", "new")
    assert (folder / "ledgers" / "sgd.yaml").read_text() == "ledger old"
    assert path.suffix != ".yaml"  # so that nothing which lists the folder takes it for a method
    subprocess.run(["bash", "-c", kept.partition("To take the new one: ")[2]], check=True)
    assert name_in(folder / "sgd.yaml") == "new"
    assert (folder / "ledgers" / "sgd.yaml").read_text() == "ledger new"
    assert sorted(item.name for item in folder.rglob("*.*")) == ["sgd.yaml", "sgd.yaml"]


def test_trials_to_their_end_are_more_than_those_that_a_pruner_stopped(folder):
    write("old", {**FACTS, "pruner": "median"})
    path, kept = write("new", {**FACTS, "pruner": "halving"})
    assert kept.startswith(f"{folder / 'sgd.yaml'} stays: pruner median, not halving. ")
    assert (name_in(folder / "sgd.yaml"), name_in(path)) == ("old", "new")


@pytest.mark.parametrize("text", ["optimizer: {lr: 0.1}", "tuning: null", "- 1", "{", ""])
def test_what_does_not_say_its_effort_stays(folder, text):
    folder.mkdir(parents=True)
    (folder / "sgd.yaml").write_text(text)
    _, kept = write("new", FACTS)
    assert "stays: it does not say what effort is behind it. To take the new one: " in kept
    assert (folder / "sgd.yaml").read_text() == text


def test_no_configuration_reads_what_lies_beside(tmp_path, monkeypatch):
    """Neither a ledger nor a file that was not taken is a choice of a method, or of a ruleset."""
    conf = tmp_path / "conf"
    subprocess.run(["cp", "-r", commandline.CONF, conf], check=True)
    monkeypatch.setattr(commandline, "CONF", conf)
    monkeypatch.setattr(tuned_file, "TUNED", conf / "tuned")
    before = compose.composed(["ruleset=tuned", "optimizer=sgd", "task=digits"])
    methods = commandline.choices("tuned/digits")
    path = conf / "tuned" / "digits" / "sgd.yaml"
    content = yaml.safe_load(path.read_text())
    content["tuning"]["trials"] = 99
    path.write_text("# @package _global_\n" + yaml.safe_dump(content))
    written, kept = write("lr: 7", {**content["tuning"], "trials": 2})
    assert kept
    assert written != path
    after = compose.composed(["ruleset=tuned", "optimizer=sgd", "task=digits"])
    assert after.optimizer == before.optimizer
    assert commandline.choices("tuned/digits") == methods


def test_the_line_is_one_that_a_shell_reads(folder):
    write("old", {**FACTS, "trials": 32})
    _, kept = write("new", FACTS)
    words = shlex.split(kept.partition("(")[2].rstrip(")"))
    assert words[:2] == ["cd", str(folder)]


def test_settings_lie_beside_one_another(folder):
    """Two widths: neither replaces the other, and each is held against its own of before."""
    for tuned in (".", "w8", "w16"):
        text = yaml.safe_dump({"name": tuned, "tuning": FACTS})
        path, kept = tuned_file.write(
            "digits", "sgd", tuned=tuned, text=text, ledger=tuned, facts=FACTS
        )
        assert (path, kept) == (folder / tuned / "sgd.yaml", "")
        assert (folder / tuned / "ledgers" / "sgd.yaml").read_text() == tuned
    assert [name_in(folder / name / "sgd.yaml") for name in (".", "w8", "w16")] == [
        ".",
        "w8",
        "w16",
    ]


@pytest.mark.parametrize(
    ("old", "new", "stays"),
    [
        ({"model.width": 8}, {"model.width": 8}, False),
        ({"model.width": 8}, {"model.width": 16}, True),
        ({"model.width": 8}, {}, True),
        ({"budget": "steps", "budget.steps": 100}, {"budget.steps": 360}, False),
        (None, {"model.width": 8}, False),  # a file of before says nothing of it
    ],
)
def test_another_setting_under_the_same_name_stays(folder, old, new, stays):
    write("old", {**FACTS, **({} if old is None else {"setting": old})})
    path, kept = write("new", {**FACTS, "setting": new})
    assert bool(kept) is stays
    assert (path.name == "sgd.yaml") is not stays
