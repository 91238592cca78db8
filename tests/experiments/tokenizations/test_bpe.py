import subprocess
import sys
from pathlib import Path

import pytest

from experiments.errors import UserError
from experiments.tokenizations import bpe

TEXT = "low lower lowest\n\nnew newer newest\n" * 30
KEYWORDS = {"vocab_size": 300, "min_frequency": 2}
TEXTS = [TEXT, "lowest new\n", "Zürich 東京 \t two  spaces \x00 <unk>\n\n\nno newline"]


def encode(folder, texts=TEXTS, **changes):
    return bpe.encode(texts, data_dir=folder, cache_dir=folder / "cache", **(KEYWORDS | changes))


def cached(folder: Path) -> Path:
    (path,) = (folder / "cache").iterdir()
    return path


def test_text_comes_back_exactly(tmp_path):
    encoding = encode(tmp_path)
    tokenizer = bpe.train(TEXT, **KEYWORDS)
    for text, stream in zip(TEXTS, encoding.streams, strict=True):
        assert tokenizer.decode(stream.tolist(), skip_special_tokens=False) == text
        assert int(stream.max()) < encoding.vocab_size


def test_the_first_merges_are_those_of_the_algorithm():
    # Pairs in "ab ab ab abc": a-b occurs 4 times, then space-ab 3, then only pairs seen once.
    tokenizer = bpe.train("ab ab ab abc", vocab_size=300, min_frequency=2)
    assert tokenizer.encode("ab ab abc").tokens == ["ab", "Ġab", "Ġab", "c"]
    assert tokenizer.get_vocab_size() == bpe.BYTES + 2


def test_only_the_training_text_decides_the_vocabulary(tmp_path):
    both = [encode(tmp_path, [TEXT, other]).checksums for other in ("a\n", "xyxyxyxy\n" * 99)]
    assert both[0] == both[1]
    assert encode(tmp_path, [TEXT + "xyxyxyxy\n" * 99, "a\n"]).checksums != both[0]


def test_no_token_reaches_over_the_end_of_a_line(tmp_path):
    (stream,) = encode(tmp_path, ["a\n\n\n\n" * 50]).streams
    letter, newline = stream[:2].tolist()
    assert stream.tolist() == [letter, *[newline] * 4] * 50


def test_another_process_trains_the_same():
    code = (
        "from experiments.tokenizations import bpe; import sys; "
        "sys.stdout.write(bpe.train(sys.stdin.read(), vocab_size=300, min_frequency=2).to_str())"
    )
    root = Path(__file__).parents[3]
    found = [
        subprocess.run(
            [sys.executable, "-c", code], input=TEXT, cwd=root, capture_output=True, text=True
        ).stdout
        for _ in range(2)
    ]
    assert found[0] == found[1] == bpe.train(TEXT, **KEYWORDS).to_str()


def test_it_is_trained_once(tmp_path, monkeypatch):
    first = encode(tmp_path)
    monkeypatch.setattr(bpe, "train", lambda *a, **k: pytest.fail("trained again"))
    second = encode(tmp_path)
    assert first.checksums == second.checksums
    assert all((a == b).all() for a, b in zip(first.streams, second.streams, strict=True))


@pytest.mark.parametrize("change", [{"vocab_size": 280}, {"min_frequency": 40}])
def test_other_arguments_are_another_file(tmp_path, change):
    encode(tmp_path)
    encode(tmp_path, **change)
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize("damage", ["empty", "truncated", "changed", "binary"])
def test_a_corrupt_cache_is_trained_again(tmp_path, damage):
    good = encode(tmp_path)
    path = cached(tmp_path)
    content = path.read_bytes()
    damaged = {
        "empty": b"",
        "truncated": content[:-20],
        "changed": content.replace(b'"merges"', b'"murges"'),
        "binary": b"\xff\xfe" + content,
    }[damage]
    assert damaged != content
    path.write_bytes(damaged)
    assert encode(tmp_path).checksums == good.checksums
    assert path.read_bytes() == content


def test_a_cache_that_cannot_be_written_is_skipped(tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert len(encode(tmp_path).streams) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 255}, r"Invalid tokenization\.vocab_size: 255\. Must be >= 256"),
        ({"min_frequency": 0}, r"Invalid tokenization\.min_frequency: 0\. Must be >= 1"),
    ],
)
def test_an_impossible_size_is_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        encode(tmp_path, **changes)


def test_the_given_characters_are_those_of_the_first_token(tmp_path):
    encoding = encode(tmp_path, [TEXT, "lowest\n", "\nlow\n", "東京\n", "x\n"])
    tokenizer = bpe.train(TEXT, **KEYWORDS)
    first = tokenizer.decode([int(encoding.streams[1][0])])
    assert encoding.given_characters[1:] == [len(first), 1, 1, 1]
