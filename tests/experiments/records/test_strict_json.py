"""JSON that any reader takes, of numbers that JSON does not have."""

import json
import math

import pytest

from experiments.records import strict_json

VALUE = {
    "loss": math.nan,
    "perplexity": math.inf,
    "gain": [1.0, -math.inf, {"deep": (math.nan, 2)}],
    "name": "NaN of a word",
    "none": None,
    "steps": 3,
    "flag": True,
}


def refuse(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


@pytest.mark.parametrize("indent", [None, 2])
def test_what_is_not_finite_is_a_word_that_any_reader_takes(indent: int | None) -> None:
    read = json.loads(strict_json.dumps(VALUE, indent=indent), parse_constant=refuse)
    assert read == {
        **VALUE,
        "loss": "NaN",
        "perplexity": "Infinity",
        "gain": [1.0, "-Infinity", {"deep": ["NaN", 2]}],
    }


@pytest.mark.parametrize("encode", [str, str.encode])
def test_what_was_written_is_read_back(encode: object) -> None:
    read = strict_json.loads(encode(strict_json.dumps(VALUE)))
    assert math.isnan(read["loss"])
    assert math.isnan(read["gain"][2]["deep"][0])
    assert (read["perplexity"], read["gain"][1]) == (math.inf, -math.inf)
    assert {key: read[key] for key in ("name", "none", "steps", "flag")} == {
        key: VALUE[key] for key in ("name", "none", "steps", "flag")
    }


def test_finite_numbers_are_written_as_before() -> None:
    rows = [{"step": 1, "loss": 0.1 + 0.2, "lr": 1e-300, "reason": "é"}]
    assert strict_json.dumps(rows) == json.dumps(rows)


def test_bare_words_of_older_records_are_read() -> None:
    assert math.isnan(strict_json.loads('{"loss": NaN}')["loss"])
    assert strict_json.loads(b"[Infinity, -Infinity]") == [math.inf, -math.inf]
