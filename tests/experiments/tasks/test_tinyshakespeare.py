import hashlib
import lzma
import shutil
from functools import partial

import pytest
import torch

from experiments.errors import UserError
from experiments.tasks import tinyshakespeare
from experiments.tokenizations import bpe, character

KEYWORDS = {
    "context": 64,
    "validation_fraction": 0.05,
    "test_fraction": 0.05,
    "tokenization": character.encode,
}


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return tinyshakespeare.build(data_dir=folder, cache_dir=folder, **KEYWORDS)


def stream_of(split) -> torch.Tensor:
    """Rebuild the stream from the windows: the first input, then every target that counts."""
    targets = split.targets.flatten()
    return torch.cat([split.inputs.flatten()[:1], targets[targets != -100]])


def test_the_splits_are_the_text_in_three_pieces(task):
    packed = tinyshakespeare.FOLDER / tinyshakespeare.FILE.names[0]
    text = lzma.decompress(packed.read_bytes()).decode()
    vocabulary = sorted(set(text))
    streams = [stream_of(split) for split in (task.train, task.validation, task.test)]
    assert [len(stream) for stream in streams] == [1_003_855, 55_769, 55_770]
    assert "".join(vocabulary[index] for index in torch.cat(streams).tolist()) == text
    assert task.model_arguments == {"vocab_size": 65, "context": 64}


def test_every_stored_character_but_the_first_is_predicted_once(task):
    for split, tokens in ((task.train, 1_003_855), (task.test, 55_770)):
        counted = sum(int((targets != -100).sum()) for _, targets in split.batches(100))
        assert counted == tokens - 1


def test_without_validation_the_test_split_is_the_same(task, tmp_path):
    keywords = KEYWORDS | {"validation_fraction": 0, "context": 100}
    other = tinyshakespeare.build(data_dir=tmp_path, cache_dir=tmp_path, **keywords)
    assert other.validation is None
    assert len(stream_of(other.train)) == 1_003_855 + 55_769
    assert torch.equal(stream_of(other.test), stream_of(task.test))


def test_the_readme_states_both_checksums():
    packed = (tinyshakespeare.FOLDER / tinyshakespeare.FILE.names[0]).read_bytes()
    readme = (tinyshakespeare.FOLDER / "README.md").read_text()
    assert hashlib.sha256(packed).hexdigest() in readme
    assert tinyshakespeare.FILE.sha256 in readme


@pytest.mark.parametrize(
    ("validation_fraction", "test_fraction"), [(-0.1, 0.1), (0.1, 0), (0.5, 0.5), (1, 0.1)]
)
def test_impossible_fractions_are_refused(tmp_path, validation_fraction, test_fraction):
    with pytest.raises(UserError, match="Invalid validation_fraction: "):
        tinyshakespeare.build(
            data_dir=tmp_path,
            cache_dir=tmp_path,
            **KEYWORDS
            | {"validation_fraction": validation_fraction, "test_fraction": test_fraction},
        )


def test_a_truncated_file_is_named(tmp_path, monkeypatch):
    name = tinyshakespeare.FILE.names[0]
    shutil.copy(tinyshakespeare.FOLDER / name, tmp_path / name)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-100])
    monkeypatch.setattr(tinyshakespeare, "FOLDER", tmp_path)
    with pytest.raises(UserError, match=rf"{name} is truncated or corrupt.*git checkout"):
        tinyshakespeare.check(tmp_path, **KEYWORDS)


def test_byte_pairs_are_trained_on_the_training_part_only(tmp_path):
    pairs = partial(bpe.encode, vocab_size=260, min_frequency=2)
    keywords = KEYWORDS | {"tokenization": pairs}
    task = tinyshakespeare.build(data_dir=tmp_path, cache_dir=tmp_path, **keywords)
    text = lzma.decompress(
        (tinyshakespeare.FOLDER / tinyshakespeare.FILE.names[0]).read_bytes()
    ).decode()
    tokenizer = bpe.train(text[:1_003_855], vocab_size=260, min_frequency=2)
    assert tokenizer.decode(stream_of(task.test).tolist()) == text[-55_770:]
    assert task.test.characters == 55_770 - 1
