"""The reader on a small vocabulary in the published layouts; the real files are not shipped."""

import json

import pytest

from experiments.errors import UserError
from experiments.tokenizations import openai_gpt

VOCABULARY = {
    "<unk>": 0, ".": 1, ",": 2, "t": 3, "h": 4, "e": 5, "c": 6, "a": 7, "a</w>": 8, "t</w>": 9,
    "e</w>": 10, ".</w>": 11, "\n</w>": 12, "th": 13, "the</w>": 14, "at</w>": 15, "cat</w>": 16,
}  # fmt: skip
MERGES = "#version: 0.2\nt h\nth e</w>\na t</w>\nc at</w>\n"


@pytest.fixture(params=openai_gpt.LAYOUTS, ids=["openai", "hugging face"])
def folder(request, tmp_path):
    """A data folder with the small vocabulary under the names of a layout."""
    vocabulary, merges = request.param
    (tmp_path / openai_gpt.FOLDER).mkdir()
    (tmp_path / openai_gpt.FOLDER / vocabulary).write_text(json.dumps(VOCABULARY))
    (tmp_path / openai_gpt.FOLDER / merges).write_text(MERGES)
    return tmp_path


def encode(folder, *texts, padding_ids=0):
    return openai_gpt.encode(
        texts, data_dir=folder, cache_dir=folder / "cache", padding_ids=padding_ids
    )


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("the cat\n", ["the</w>", "cat</w>", "\n</w>"]),
        ("The CAT.\n", ["the</w>", "cat</w>", ".</w>", "\n</w>"]),  # lower case, punctuation
        ("thé", ["the</w>"]),  # no accents
        ("hat that", ["h", "at</w>", "th", "at</w>"]),  # in pieces
        ("\n\na\n", ["\n</w>", "\n</w>", "a</w>", "\n</w>"]),  # blank lines count
        ("cab <unk> cat", ["c", "a", "<unk>", "<unk>", "cat</w>"]),
    ],
)
def test_text_is_split_as_published(folder, text, tokens):
    (stream,) = encode(folder, text).streams
    assert stream.tolist() == [VOCABULARY[token] for token in tokens]


def test_padding_comes_before_the_vocabulary(folder):
    plain, padded = encode(folder, "the cat\n"), encode(folder, "the cat\n", padding_ids=1)
    assert padded.streams[0].tolist() == [id_ + 1 for id_ in plain.streams[0].tolist()]
    assert (plain.vocab_size, padded.vocab_size) == (17, 18)


def test_the_given_characters_are_those_of_the_first_token(folder):
    encoding = encode(folder, "the cat\n", "\nthe\n", "hat\n", "Thé\n")
    assert encoding.given_characters == [3, 1, 1, 3]


def test_both_files_have_their_checksums(folder):
    checksums = encode(folder, "a").checksums
    assert len(checksums) == 2
    assert all(len(digest) == 64 for digest in checksums.values())


@pytest.mark.parametrize("part", [0, 1])
def test_a_missing_file_is_one_line_that_names_folder_and_files(tmp_path, folder, part):
    (names,) = [n for n in openai_gpt.LAYOUTS if (folder / openai_gpt.FOLDER / n[0]).exists()]
    (folder / openai_gpt.FOLDER / names[part]).unlink()
    for call in (
        lambda: openai_gpt.check(folder, padding_ids=1),
        lambda: encode(folder, "a"),
    ):
        with pytest.raises(UserError, match="Tokenizer files are missing") as error:
            call()
        text = str(error.value)
        assert str(folder / openai_gpt.FOLDER) in text
        assert all(name in text for pair in openai_gpt.LAYOUTS for name in pair)
        assert "\n" not in text


@pytest.mark.parametrize(
    ("part", "content", "message"),
    [
        (0, "{", "cannot be read"),
        (0, "[]", "holds no vocabulary with <unk>"),
        (0, '{"a": 0}', "holds no vocabulary with <unk>"),
        (0, '{"<unk>": 0, "a": 2}', "does not number its tokens"),
        (1, "#version: 0.2\nt h e\n", "line 2 is no pair"),
        (1, "#version: 0.2\nthe\n", "line 2 is no pair"),
        (1, "#version: 0.2\nx y\n", "does not fit its vocabulary"),
    ],
)
def test_a_damaged_file_is_one_line(folder, part, content, message):
    (names,) = [n for n in openai_gpt.LAYOUTS if (folder / openai_gpt.FOLDER / n[0]).exists()]
    (folder / openai_gpt.FOLDER / names[part]).write_text(content)
    with pytest.raises(UserError, match=message) as error:
        encode(folder, "a")
    assert "\n" not in str(error.value)


def test_negative_padding_is_refused(folder):
    with pytest.raises(UserError, match=r"Invalid tokenization\.padding_ids: -1"):
        openai_gpt.check(folder, padding_ids=-1)
