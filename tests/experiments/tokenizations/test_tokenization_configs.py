import inspect
from importlib import import_module

import pytest

from experiments.config import commandline, identity
from experiments.config.compose import composed
from experiments.errors import UserError
from experiments.sweep import preflight

NAMES = commandline.choices("tokenization")
DEFAULTS = {
    "wikitext2": "word",
    "ptb": "word",
    "tinyshakespeare": "character",
    "generated_text": "word",
}


def test_the_tokenizations_of_the_suite_are_there():
    assert {"word", "character", "bpe", "openai_gpt"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_gives_every_argument_and_no_other(name):
    section = composed(["task=ptb", f"tokenization={name}"]).tokenization
    module, _, function = section.arguments["_target_"].rpartition(".")
    arguments = inspect.signature(getattr(import_module(module), function)).parameters
    assert set(arguments) == set(section.hyperparameters) | {"texts", "data_dir", "cache_dir"}
    assert "published_as" in section.suite
    assert section.name == name
    text = (commandline.CONF / "tokenization" / f"{name}.yaml").read_text()
    assert text.startswith("# ")


@pytest.mark.parametrize("name", commandline.choices("task"))
def test_text_and_nothing_else_has_a_tokenization(name):
    section = composed([f"task={name}"]).tokenization
    assert (section and section.name) == DEFAULTS.get(name)


def test_the_tokenization_is_part_of_a_runs_id():
    ids = {
        composed(["task=ptb", *overrides]).run_id
        for overrides in (
            [],
            ["tokenization=bpe"],
            ["tokenization=bpe", "tokenization.vocab_size=4096"],
            ["tokenization=openai_gpt"],
        )
    }
    assert len(ids) == 4
    assert composed(["task=ptb", "tokenization=word"]).run_id in ids


def test_a_tokenization_is_told_with_its_settings():
    config = composed(["task=ptb", "tokenization=bpe", "tokenization.vocab_size=300"])
    assert identity.tokenization(config) == "bpe vocab_size=300 min_frequency=2"
    assert identity.tokenization(composed(["task=digits"])) is None


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], None),
        (["tokenization=bpe"], None),
        (["tokenization=openai_gpt"], "ptb"),
    ],
)
def test_perplexities_join_with_the_published_vocabulary_only(overrides, expected):
    config = composed(["task=ptb", "model=gpt1_mini_released", "optimizer=adamw", *overrides])
    names = identity.published_as(config)
    assert names == {"task": expected, "model": "gpt1_mini", "optimizer": "adamw"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task=digits", "tokenization=bpe"], "Invalid tokenization: 'bpe'. task=digits has no"),
        (["task=ptb", "tokenization=null"], "Invalid tokenization: null. Must be.*openai_gpt"),
        (["task=tinyshakespeare", "tokenization=wrod"], "Unknown tokenization: 'wrod'.*word"),
        (
            ["task=tinyshakespeare", "tokenization=bpe", "tokenization.vocab_size=2"],
            "Invalid tokenization.vocab_size: 2",
        ),
        (["task=tinyshakespeare", "tokenization=openai_gpt"], "Tokenizer files are missing"),
        (["task=tinyshakespeare", "model=gpt1_mini_released"], "Embeddings are missing"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_before_anything_runs(tmp_path, overrides, message):
    folders = [f"runs_dir={tmp_path / 'runs'}", f"data_dir={tmp_path / 'data'}"]
    with pytest.raises(UserError, match=message) as caught:
        preflight.check(commandline.normalise(["optimizer=adam", *folders, *overrides]))
    assert "\n" not in str(caught.value)
