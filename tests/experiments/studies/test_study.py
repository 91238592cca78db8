"""The command that measures studies: what it stores, skips, refuses, and leaves when it is cut."""

import importlib
import json
import math
import re
from dataclasses import fields

import numpy as np
import pytest
import torch
import yaml

import analysis.figures
from analysis.plots.missing import Missing
from analysis.report.report import names_of
from analysis.results.load import load_results
from analysis.results.studies import load_study
from experiments.config import commandline
from experiments.engine.divergence import DivergedError
from experiments.engine.loop import Trainer
from experiments.errors import UserError
from experiments.records.schema import STUDIES_DIR
from experiments.studies import fisher_histograms, study
from experiments.studies.full_factors import FullFactors
from tests.support.commands import exit_code

NAMES = study.names()
SMALL = {
    "landscape": ["epochs=1", "batch_size=75", "points=4", "methods={sgd: {lr: 0.1}, adam: {}}"],
    "kept_gradients": ["steps=60", "averaged=5"],
    "kronecker": ["steps=[1,3]", "layer=features.0.0", "budget.steps=3"],
    "loss_scale": [
        "methods=[sgd,adahessian]",
        "seeds=[0,1]",
        "budget.epochs=2",
        "task.batch_size=600",
    ],
    "fisher_histograms": ["steps=[1,3]", "layers=[features.0.0,classifier]", "budget.steps=3"],
}


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """Run the command; returns exit code, stdout and stderr."""

    def run(*arguments):
        folders = [f'runs_dir="{tmp_path / "my runs, here"}"', f"cache_dir={tmp_path / 'cache'}"]
        code = exit_code("study", *arguments, *folders)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    run.runs_dir = tmp_path / "my runs, here"
    return run


def prepared(name, *overrides, runs_dir="/nowhere"):
    folders = {"data_dir": "/data", "runs_dir": str(runs_dir), "cache_dir": "/cache"}
    return study.prepare(name, list(overrides), folders)


@pytest.mark.parametrize("name", NAMES)
def test_every_study_says_its_command(name):
    text = (commandline.CONF / "study" / f"{name}.yaml").read_text()
    header = [line for line in text.splitlines() if line.startswith("#")]
    assert any(f"study={name}" in line for line in header)
    module = importlib.import_module(f"experiments.studies.{name}")
    keys = {field.name for field in fields(study.options_class(module))}
    assert set(yaml.safe_load(text)) == {*keys, "figures"}
    assert prepared(name).plan.essence


@pytest.mark.parametrize("name", NAMES)
def test_a_study_is_stored_whole_read_back_and_skipped(name, call):
    assert name in study.missing_studies(call.runs_dir)
    code, out, err = call(f"study={name}", *SMALL[name])
    assert (code, err) == (0, "")
    assert "stored in" in out
    (folder,) = (call.runs_dir / STUDIES_DIR / name).iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["arrays.npz", "study.json"]
    described = json.loads((folder / "study.json").read_text())
    assert described["study_id"] == folder.name
    assert described["environment"]["packages"]["torch"]
    assert all(argument in described["command"] for argument in SMALL[name])
    arrays, facts = load_study(call.runs_dir, name)
    assert {key: list(array.shape) for key, array in arrays.items()} == described["arrays"]
    assert all(np.isfinite(array).all() for key, array in arrays.items() if "projection" not in key)
    assert facts["study_id"] == folder.name
    assert name not in study.missing_studies(call.runs_dir)
    before = (folder / "study.json").stat().st_mtime_ns
    code, out, _ = call(f"study={name}", *SMALL[name])
    assert (code, "done before" in out) == (0, True)
    assert (folder / "study.json").stat().st_mtime_ns == before


def test_one_command_prints_the_loss_with_cleared_and_with_kept_gradients(call):
    """Both begin at the loss of a guess; one learns, the other one is driven about and does not."""
    arguments = ["study=kept_gradients", *SMALL["kept_gradients"]]
    for attempt in ("measured", "done before"):
        code, out, _ = call(*arguments)
        line = next(line for line in out.splitlines() if "training loss" in line)
        first, cleared, kept = (float(word) for word in re.findall(r"\d+\.\d+", line))
        assert code == 0, attempt
        assert cleared < 0.75 * first
        assert kept > 0.95 * first
    arrays, _ = load_study(call.runs_dir, "kept_gradients")
    assert arrays["cleared"][0] == arrays["kept"][0] == pytest.approx(first, abs=0.005)
    assert arrays["cleared"][-5:].mean() == pytest.approx(cleared, abs=0.005)
    assert arrays["kept"][-5:].mean() == pytest.approx(kept, abs=0.005)


def test_only_missing_studies_are_measured(call, monkeypatch):
    measured = []
    monkeypatch.setattr(study, "run", lambda each: measured.append(each.name))
    done = call.runs_dir / STUDIES_DIR / NAMES[0] / "0123456789ab"
    done.mkdir(parents=True)
    (done / "study.json").write_text("{}")
    hidden = call.runs_dir / STUDIES_DIR / NAMES[1] / ".0123.partial"
    hidden.mkdir(parents=True)
    (hidden / "study.json").write_text("{}")
    assert call("study=missing")[0] == 0
    assert measured == NAMES[1:]
    monkeypatch.setattr(study, "missing_studies", lambda runs_dir, figure: [])
    assert call("study=missing")[1] == "study: none is missing\n"
    measured.clear()
    assert call("study=all")[0] == 0
    assert measured == NAMES


def test_the_figures_of_a_study_are_those_that_ask_for_it(tmp_path):
    named = {figure: name for name in NAMES for figure in study.figures(name)}
    asked = {}
    for figure in names_of(analysis.figures):
        built = importlib.import_module(f"analysis.figures.{figure}").build(load_results(tmp_path))
        command = built.command if isinstance(built, Missing) else ""
        if command.startswith("make study FIG="):
            asked[figure] = command.partition("=")[2]
    assert named == asked


def test_a_figure_has_only_the_studies_measured_that_it_lacks(call, monkeypatch):
    measured = []
    monkeypatch.setattr(study, "run", lambda each: measured.append(each.name))
    assert call("study=missing", "figure=gershgorin_discs")[0] == 0
    assert measured == ["kronecker"]
    assert call("study=missing", "figure=cost_per_method")[1] == "study: none is missing\n"
    code, _, err = call("study=all", "figure=gershgorin_discs")
    assert (code, err) == (
        2,
        "error: Invalid figure: gershgorin_discs. Goes with study=missing only.\n",
    )
    assert measured == ["kronecker"]


def test_what_is_cut_off_leaves_nothing_to_see(tmp_path, monkeypatch):
    each = prepared("landscape", *SMALL["landscape"], runs_dir=tmp_path)

    def full(path, content):
        if path.name == "study.json":
            raise OSError(28, "No space left on device")
        path.write_bytes(content)

    with monkeypatch.context() as patch:
        patch.setattr(study, "write_atomic", full)
        with pytest.raises(OSError, match="No space"):
            study.run(each)
    assert load_study(tmp_path, "landscape") is None
    assert not list(each.folder.parent.iterdir())
    assert not each.is_done()
    study.run(each)
    assert each.is_done()
    assert [path.name for path in each.folder.parent.iterdir()] == [each.folder.name]


def test_of_two_processes_the_first_result_stays(tmp_path):
    first = prepared("landscape", *SMALL["landscape"], runs_dir=tmp_path)
    study.run(first)
    stored = (first.folder / "study.json").read_bytes()
    study.run(first)
    assert (first.folder / "study.json").read_bytes() == stored
    assert [path.name for path in first.folder.parent.iterdir()] == [first.folder.name]


@pytest.mark.parametrize(
    ("name", "override", "key"),
    [
        ("kronecker", "noise_std=nan", "noise_std: nan"),
        ("kronecker", "gammas=[0.9,inf]", "gammas: [0.9, inf]"),
        ("landscape", "methods.sgd.lr=nan", "methods.sgd.lr: nan"),
        ("landscape", "held_decay=-inf", "held_decay: -inf"),
    ],
)
def test_an_option_that_is_not_finite_is_one_line(call, name, override, key):
    code, out, err = call(f"study={name}", override)
    assert (code, out, err) == (2, "", f"error: Invalid {key}. Must be finite.\n")


@pytest.mark.parametrize(
    ("name", "reason"), [("kronecker", "weight "), ("fisher_histograms", "adam: weight ")]
)
def test_a_study_of_what_diverges_stores_nothing(call, monkeypatch, name, reason):
    """The last step alone is looked at, and no loss comes after it."""
    plain = Trainer._step

    def spoiled(trainer, *batch):
        result = plain(trainer, *batch)
        next(trainer.built.model.parameters()).data.fill_(math.nan)
        return result

    monkeypatch.setattr(Trainer, "_step", spoiled)
    methods = ["methods=[adam]"] if name == "fisher_histograms" else []
    code, _, err = call(f"study={name}", *SMALL[name], "steps=[1]", *methods)
    assert code == 1
    assert re.fullmatch(
        f"study {name}: diverged, {reason}\\S+ is nan at step 1; nothing is stored\n", err
    )
    assert study.missing_studies(call.runs_dir) == NAMES


def test_a_landscape_on_which_a_method_diverges_is_not_stored(call):
    methods = "methods={adam: {}, sgd: {lr: 1e30, weight_decay: 0.0}}"
    code, _, err = call("study=landscape", "epochs=20", "points=4", "softmax_output=false", methods)
    assert code == 1
    assert err.startswith("study landscape: diverged, sgd, projection: loss is nan at step ")
    assert not (call.runs_dir / STUDIES_DIR / "landscape").exists()


def test_a_factor_that_is_not_finite_is_not_looked_at(call, monkeypatch):
    """An eigenvalue of it would be a traceback, or a number that is none."""
    plain = FullFactors._updated
    monkeypatch.setattr(
        FullFactors, "_updated", lambda factors, average, rows: plain(factors, average, rows) / 0
    )
    code, _, err = call("study=kronecker", *SMALL["kronecker"])
    assert code == 1
    assert re.search(r"diverged, activation factor is (inf|nan) at step 1; nothing is stored", err)


def test_a_diagonal_that_is_not_finite_is_not_looked_at(call, monkeypatch):
    monkeypatch.setattr(
        fisher_histograms, "fisher_diag", lambda optimizer, param: torch.full_like(param, math.inf)
    )
    code, _, err = call("study=fisher_histograms", *SMALL["fisher_histograms"])
    assert code == 1
    assert "diverged, adafisher: diagonal of features.0.0 is inf at step 1; nothing" in err


def test_a_study_that_diverges_stops_no_other(call, monkeypatch):
    measured = []

    def run(each):
        if each.name == NAMES[0]:
            raise DivergedError("loss is nan at step 3")
        measured.append(each.name)

    monkeypatch.setattr(study, "run", run)
    code, _, err = call("study=all")
    assert code == 1
    assert f"study {NAMES[0]}: diverged, loss is nan at step 3; nothing is stored" in err
    assert measured == NAMES[1:]


def test_the_id_is_of_what_is_measured():
    first = prepared("kronecker").folder.name
    assert prepared("kronecker", runs_dir="/elsewhere").folder.name == first
    assert prepared("kronecker", "threads=2").folder.name == first
    others = [["seed=1"], ["noise_std=0.1"], ["optimizer=adam"], ["task=mnist"], ["gammas=[0,0]"]]
    ids = {prepared("kronecker", *other).folder.name for other in others}
    assert len(ids | {first}) == 1 + len(others)
    assert prepared("landscape", "methods.adam.lr=0.5").folder != prepared("landscape").folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing value: study. Give it as study=<name>, one of: fisher_histograms,"),
        (["study=landscap"], "Unknown study: 'landscap'. Must be one of: fisher_histograms,"),
        (["landscape"], "Invalid argument: 'landscape'. Must be key=value."),
        (["study=landscape", "epoch=3"], "Unknown key: 'epoch'. Of study=landscape there are"),
        (["study=landscape", "epochs=many"], "Value 'many' of type 'str' could not be converted"),
        (["study=landscape", "seed=0,1"], "Invalid seed: seed=0,1. A study takes one value."),
        (["study=kronecker", "task=digit"], "Unknown task: 'digit'. Did you mean: digits?"),
        (
            ["study=kronecker", "layer=conv9"],
            "Unknown layer: 'conv9'. Must be one of: features.0.0",
        ),
        (["study=kronecker", "layer=features.0.1"], "Invalid layer: BatchNorm2d."),
        (["study=kronecker", "steps=[5,3]"], "Invalid steps: [5, 3]. Must be ascending"),
        (["study=kronecker", "steps=[2000]"], "The run takes 1000; budget=steps budget.steps=2000"),
        (["study=kronecker", "normalization=l2"], "Invalid normalization: 'l2'. Must be max or"),
        (["study=kronecker", "optimizer=adahessian"], "needs one backward pass a step"),
        (["study=kronecker", "precision=fp16"], "Invalid precision: fp16."),
        (["study=kronecker", "loss_scale=2"], "Invalid loss_scale: 2. A study reads gradients"),
        (["study=loss_scale", "seeds=[]"], "Invalid seeds: []."),
        (["study=loss_scale", "seed=1"], "Invalid key: seed. Give seeds=[...]."),
        (["study=loss_scale", "loss_scale=0"], "Invalid loss_scale: 0"),
        (["study=loss_scale", "budget=steps", "budget.steps=5"], "needs one in whole epochs"),
        (["study=fisher_histograms", "methods=[sgd]", "steps=[1]"], "SGD keeps no diagonal"),
        (["study=fisher_histograms", "optimizer=sgd"], "Give methods=[...]"),
        (["study=fisher_histograms", "layers=[]"], "Invalid layers: []."),
        (["study=kept_gradients", "averaged=0"], "Invalid averaged: 0. Must be >= 1 and <="),
        (
            ["study=kept_gradients", "optimizer=adahessian"],
            "not with optimizer.suite.needs.keep_gradients=true",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_stores_nothing(arguments, message, call):
    code, _, err = call(*arguments)
    assert code == 2
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not list(call.runs_dir.glob(f"{STUDIES_DIR}/*/*"))


def test_missing_data_are_named(call):
    code, _, err = call("study=kronecker", "task=mnist", "data_dir=/no/such/folder")
    assert code == 2
    assert "/no/such/folder" in err


def test_a_value_of_the_wrong_kind_is_refused():
    with pytest.raises(UserError, match="study=kronecker"):
        prepared("kronecker", "gammas=high")


GOOD = {
    "schema": 1,
    "study_id": "a",
    "command": "c",
    "finished": "2026",
    "arrays_sha256": "0" * 64,
    "facts": {},
}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "study.json: not readable as JSON"),
        ('{"schema": 1, "study_id": "a"}', "study.json: lacks command"),
        ('{"schema": 2}', "written by a newer version: schema 2, this one reads 1; update"),
        (json.dumps(GOOD), "study.json: its facts are damaged"),
    ],
)
def test_the_damaged_result_of_a_study_is_one_line_and_stays(call, content, told):
    folder = prepared("kept_gradients", runs_dir=call.runs_dir).folder
    folder.mkdir(parents=True)
    (folder / "study.json").write_text(content)
    code, _, errors = call("study=kept_gradients")
    assert code == 2
    assert told in errors
    assert errors.count("\n") == 1
    assert (folder / "study.json").read_text() == content
