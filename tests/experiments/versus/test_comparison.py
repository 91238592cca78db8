"""The record of a comparison: its seeds, what is frozen, and what a new tuning makes void."""

import dataclasses
import json

import pytest

from experiments.errors import UserError
from experiments.records.verdict import FILE, FOLDER
from experiments.run import execute
from experiments.tuning.options import TuneOptions
from experiments.versus.comparison import Comparison, Question

FROZEN = {
    "digits": {side: {"hyperparameters": {"lr": 0.1}, "effort": {}} for side in ("ours", "theirs")}
}


@pytest.fixture
def question(tmp_path):
    words = (f"runs_dir={tmp_path / 'runs'}", "budget=match_seconds", "budget.match_seconds=sgd")
    return Question("adam", "sgd", ("digits",), TuneOptions(trials=4), words, None)


def begun(question, **changes):
    comparison = Comparison(dataclasses.replace(question, **changes))
    comparison.freeze(FROZEN)
    return comparison


def test_what_was_frozen_is_found_again(question):
    first = begun(question)
    again = Comparison(question)
    assert again.path == first.path
    assert again.facts == json.loads(first.path.read_text())
    assert again.facts["frozen"] == FROZEN
    assert again.facts["seeds"] == list(range(10))


def test_seeds_with_a_result_of_either_method_are_not_taken(question, make_config):
    config = make_config("optimizer=sgd", "task=digits", "seed=4")
    assert execute(config).status == "done"
    assert execute(make_config("optimizer=adamw", "task=digits", "seed=14")).status == "done"
    assert begun(question).facts["seeds"] == list(range(10, 20))  # of adamw nothing is asked


def test_another_tuning_makes_the_earlier_one_void_and_has_seeds_of_its_own(question):
    first = begun(question)
    second = begun(question, options=TuneOptions(trials=6))
    assert second.facts["after"] == [first.folder.name]
    assert second.facts["seeds"] == list(range(10, 20))
    void = json.loads(first.path.read_text())["void"]
    assert second.folder.name in void
    # Asked as at first, it begins anew, and the one in between is void.
    third = begun(question)
    assert third.folder.name == f"{first.folder.name}-2"
    assert third.facts["seeds"] == list(range(20, 30))
    assert sorted(third.facts["after"]) == sorted([first.folder.name, second.folder.name])
    assert json.loads(second.path.read_text())["void"]


def test_a_question_about_other_tasks_too_is_said_and_makes_nothing_void(question):
    first = begun(question)
    both = begun(question, tasks=("digits", "generated_text"))
    assert (both.facts["after"], both.facts["beside"]) == ([], [first.folder.name])
    assert both.facts["seeds"] == list(range(10, 20))  # those of the first were looked at
    assert json.loads(first.path.read_text())["void"] is None
    retuned = begun(question, options=TuneOptions(trials=6))
    assert sorted(retuned.facts["after"]) == sorted([first.folder.name, both.folder.name])


def test_another_space_is_another_tuning(question):
    first = begun(question)
    narrower = (*question.overrides, "optimizer.suite.search.lr.low=1e-3")
    second = begun(question, overrides=narrower)
    assert second.facts["after"] == [first.folder.name]


def test_another_setting_makes_nothing_void(question):
    first = begun(question)
    longer = (*question.overrides, "budget.reference_epochs=7")
    other = begun(question, overrides=longer)
    swapped = begun(question, optimizer="sgd", against="adamw")
    assert other.facts["after"] == swapped.facts["after"] == []
    assert json.loads(first.path.read_text())["void"] is None
    assert other.facts["seeds"] == list(range(10, 20))  # those of the first were looked at


def test_a_margin_is_typed_before_the_first_result(question):
    Comparison(dataclasses.replace(question, margin=0.5)).save()
    begun(question, margin=0.25)  # nothing was frozen yet
    with pytest.raises(
        UserError, match=r"Invalid margin: none\. This comparison was begun with 0\.25"
    ):
        Comparison(question)


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 7}'])
def test_a_damaged_record_is_one_line(question, text):
    path = begun(question).path
    path.write_text(text)
    with pytest.raises(UserError, match=r"verdict\.json is no record of a comparison"):
        Comparison(question)


def test_the_folder_is_hidden_beside_the_runs(question, tmp_path):
    path = begun(question).path
    assert path.parent.parent == tmp_path / "runs" / FOLDER
    assert path.name == FILE
    assert path.parent.name.startswith("adam-sgd-")
