"""Steps at equal time that are written down: the file, and the runs that go by it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from experiments.config import commandline, compositions, named
from experiments.errors import UserError
from experiments.records.outcome import PreparationError
from experiments.records.schema import load_run
from experiments.run import run
from experiments.sweep.inspection import inspect
from experiments.timing import calibration, calibration_key, listed_steps
from tests.support.calibrations import made_up

RATIOS = {"adafisher": 1.0, "adam": 0.5, "sgd": 0.3, "soap": 4.0, "shampoo": 2.0}
MATCHED = ["task=digits", "budget=match_seconds", "budget.reference_steps=6", "threads=1"]


@pytest.fixture
def timed(tmp_path: Path, monkeypatch) -> Iterator[list[list[str]]]:
    """A `conf/` of one's own, and made-up costs; it gathers which methods were timed."""
    conf = shutil.copytree(commandline.CONF, tmp_path / "conf")
    monkeypatch.setattr(commandline, "CONF", conf)
    asked = []

    def measure(configs, runs_dir):
        asked.append([config.optimizer.name for config in configs])
        machine = calibration_key.machine(configs[0])
        reference = configs[0].budget["match_seconds"]
        same = {"machine": machine, "reference": reference}
        return [made_up(method=name, ratio=RATIOS[name], **same) for name in asked[-1]]

    monkeypatch.setattr(calibration, "measure", measure)
    yield asked
    named.forget()


def write(methods: str, *further: str, name: str = "equal") -> dict:
    words = [f"name={name}", f"optimizer={methods}", *MATCHED, *further]
    assert listed_steps.main(words) == 0
    return yaml.safe_load((commandline.CONF / "budget" / f"{name}.yaml").read_text())


def test_the_file_has_the_steps_of_each_method_nearest_to_the_references_time(timed):
    made = write("adafisher,adam,sgd,soap", "seed=0,1")
    # six steps of the reference are so many of a method whose step costs its ratio
    assert made["by_optimizer"] == {"adafisher": 6, "adam": 12, "sgd": 20, "soap": 2}
    assert made["calibration"]["reference"] == "adafisher"
    assert made["calibration"]["reference_steps"] == 6
    assert made["measured"]["methods"]["sgd"]["ratio"] == 0.3
    assert timed == [["adafisher", "adam", "sgd", "soap"]]


def test_a_run_goes_by_the_file_and_says_so(timed, tmp_path, make_config):
    made = write("adafisher,sgd")
    config = make_config("budget=equal", "optimizer=sgd")
    inspect(config)
    assert run.execute(config).status == "done"
    record = load_run(config.runs_dir / config.run_id)
    assert record.progress["step"] == record.progress["total_steps"] == 20
    by = made["calibration"]
    assert record.identity["budget"] == (
        f"equal time (6 steps of adafisher, timed {by['date']} on {by['machine']})"
    )
    given = {"steps": 20, "schedule_per": "step", "calibration": by}
    assert record.identity["protocol"]["budget"] == given


def test_an_id_has_the_steps_and_the_calibration_but_no_other_methods(timed, make_config):
    write("adafisher,sgd")
    first = make_config("budget=equal", "optimizer=sgd")
    plain = make_config("budget=steps", "budget.steps=20", "optimizer=sgd")
    assert first.run_id != plain.run_id
    made = write("adafisher,sgd,adam")
    assert timed == [["adafisher", "sgd"], ["adam"]]
    assert list(made["by_optimizer"]) == ["adafisher", "sgd", "adam"]
    compositions._kept.cache_clear()
    again = make_config("budget=equal", "optimizer=sgd")
    assert again.run_id == first.run_id
    assert again.budget["by_optimizer"]["adam"] == 12
    inspect(make_config("budget=equal", "optimizer=adam"))


def test_what_is_there_is_timed_again_on_request_only(timed):
    write("adafisher,sgd")
    write("sgd")
    write("sgd", "again=true")
    assert timed == [["adafisher", "sgd"], ["sgd"]]


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["optimizer=adam"], r"'equal'\. It has no steps of adam, but of adafisher, soap\."),
        (["budget.steps=3"], r"budget\.steps: 3\. Must be null with budget=equal, which has"),
        (["model.width=8"], r"were timed with model\.width=16, not 8\."),
        (["task.batch_size=32"], r"were timed with task\.batch_size=64, not 32\."),
        (["precision=bf16"], r"were timed with precision=fp32, not bf16\."),
        (
            ["optimizer.max_precondition_dim=8192"],
            r"soap were timed with optimizer\.max_precondition_dim=10000, not 8192\.",
        ),
        (["optimizer.weight_decay=0"], r"with optimizer\.weight_decay=true, not false\."),
        (["+optimizer.suite.ema=0.9"], r"with optimizer\.ema=null, not true\."),
        (
            ["optimizer.suite.needs.create_graph=true"],
            r"with optimizer\.needs\.create_graph=false, not true\.",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_was_not_timed_is_refused_in_one_line(timed, make_config, overrides, line):
    write("adafisher,soap")
    with pytest.raises(UserError, match=line):
        inspect(make_config("optimizer=soap", "budget=equal", *overrides))


def test_steps_of_a_file_that_was_edited_are_refused(timed, make_config, tmp_path, monkeypatch):
    monkeypatch.setitem(RATIOS, "listed.Mine", 2.0)
    file = tmp_path / "listed.py"
    file.write_text("from torch.optim import SGD\n\nclass Mine(SGD):\n    pass\n")
    typed = f"{file}:Mine"
    write(f"adafisher,{typed}")
    inspect(make_config(f"optimizer={typed}", "budget=equal"))
    file.write_text(file.read_text() + "# edited\n")
    with pytest.raises(UserError, match=r"listed\.Mine were timed with optimizer\.sha256="):
        inspect(make_config(f"optimizer={typed}", "budget=equal"))


def test_a_method_is_not_added_beside_a_reference_in_another_form(timed):
    """As that of another ruleset, or of an older file: its own time would be another."""
    beside = "budget.match_seconds=shampoo"
    made = write("shampoo,sgd", beside)
    assert made["measured"]["methods"]["shampoo"]["arguments"]["interval"] == 10
    made["measured"]["methods"]["shampoo"]["arguments"]["interval"] = 1
    (commandline.CONF / "budget" / "equal.yaml").write_text(yaml.safe_dump(made))
    with pytest.raises(UserError, match=r"timed with shampoo\.interval=1, not 10\. again=true"):
        write("adam", beside)


def test_a_file_of_before_does_not_tell_of_needs(timed, make_config):
    made = write("adafisher,soap")
    for measured in made["measured"]["methods"].values():
        del measured["arguments"]["needs"]
    (commandline.CONF / "budget" / "equal.yaml").write_text(yaml.safe_dump(made))
    inspect(make_config("optimizer=soap", "budget=equal"))
    write("sgd")
    assert timed == [["adafisher", "soap"], ["sgd"]]


@pytest.mark.parametrize(
    "override",
    ["optimizer.lr=0.5", "optimizer.weight_decay=0.3", "seed=4", "task.evaluate_every=2"],
)
def test_what_costs_nothing_may_be_otherwise(timed, make_config, override):
    write("adafisher,soap")
    inspect(make_config("optimizer=soap", "budget=equal", override))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["name=a/b"], r"Invalid name: 'a/b'\. Must be of letters"),
        (["name=epochs"], r"Invalid name: 'epochs'\. It is a budget that nobody measured\."),
        (["name=x", "budget=steps", "budget.steps=3"], r"Invalid budget: 3 steps\. Must be match_"),
        (["name=x", "model.width=8,16"], r"several settings\. Must be one task"),
        (["name=x", "optimizer.amsgrad=true,false"], r"several forms of one method"),
        (["name=equal", "model.width=8"], r"equal\.yaml: timed with model\.width=16, not 8\."),
        (["name=equal", "budget.reference_steps=7"], r"timed with steps=6, not 7\."),
        (["name=equal", "budget.reference_steps=null"], r"timed with steps=6, not 360\."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_timed_is_refused(timed, words, line):
    write("adafisher")
    with pytest.raises(UserError, match=line):
        listed_steps.main(
            ["optimizer=adam", *(MATCHED if "budget=steps" not in words else []), *words]
        )
    assert not (commandline.CONF / "budget" / "x.yaml").exists()


def test_a_method_that_cannot_be_timed_leaves_no_file(timed, monkeypatch):
    failed = [made_up(), PreparationError("calibration: sgd: the machine is too busy")]
    monkeypatch.setattr(calibration, "measure", lambda configs, runs_dir: failed)
    with pytest.raises(PreparationError, match="too busy"):
        write("adam,sgd")
    assert not (commandline.CONF / "budget" / "equal.yaml").exists()


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        (
            "calibration",
            {"date": "today"},
            r"^Invalid budget\.calibration: .*Must have reference, ",
        ),
        ("measured", {"methods": 3}, r"^Invalid budget\.measured: .*steps` writes it"),
        ("measured", None, r"^Invalid budget\.measured: None\. "),
        ("by_optimizer", 7, r"^Invalid budget\.by_optimizer: 7\. Must be a mapping"),
    ],
)
def test_a_file_that_was_damaged_is_one_line(timed, make_config, key, value, line):
    made = write("adafisher,sgd")
    path = commandline.CONF / "budget" / "equal.yaml"
    path.write_text(yaml.safe_dump({**made, key: value}))
    with pytest.raises(UserError, match=line):
        inspect(make_config("budget=equal", "optimizer=sgd"))
