from pathlib import Path

import pytest

from experiments.errors import UserError
from experiments.tokenizations import character, word

PATHS = {"data_dir": Path(), "cache_dir": Path()}


def test_every_line_ends_with_eos_and_blank_lines_count():
    texts = ["the cat sat\n\nthe mat\n", "the mat\n", "\ncat\nthe\n"]
    encoding = word.encode(texts, **PATHS)
    # the, cat, sat, <eos>, mat
    assert [stream.tolist() for stream in encoding.streams] == [
        [0, 1, 2, 3, 3, 0, 4, 3],
        [0, 4, 3],
        [3, 1, 3, 0, 3],
    ]
    assert encoding.vocab_size == 5
    assert encoding.given_characters == [3, 3, 1]


def test_a_word_outside_the_vocabulary_is_refused():
    with pytest.raises(UserError, match=r"'dog'.*tokenization=bpe"):
        word.encode(["a cat\n", "a dog\n"], **PATHS)


def test_characters_are_numbered_in_order():
    encoding = character.encode(["ba\n", "c"], **PATHS)
    assert [stream.tolist() for stream in encoding.streams] == [[2, 1, 0], [3]]
    assert (encoding.vocab_size, encoding.given_characters) == (4, [1, 1])
