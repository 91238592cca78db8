import math
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from experiments.errors import UserError
from experiments.tasks.objective import IGNORE, LOSS
from experiments.tasks.tokens import NEXT_TOKEN, TokenSplit, language_task
from experiments.tokenizations import bpe, character, word

TEXT = "the cat sat on the mat\n\nthe dog sat\n" * 40
PATHS = {"data_dir": Path(), "cache_dir": Path("/dev/null")}
TOKENIZATIONS = {
    "word": partial(word.encode, **PATHS),
    "character": partial(character.encode, **PATHS),
    "bpe": partial(bpe.encode, vocab_size=270, min_frequency=2, **PATHS),
}


def make_split(tokens: torch.Tensor, *, context: int) -> TokenSplit:
    return TokenSplit(tokens, context=context, words=1, characters=1)


def make_task(name: str, *, validation: str | None = TEXT, context: int = 16):
    return language_task(
        "case",
        train=TEXT,
        validation=validation,
        test=TEXT,
        context=context,
        encode=TOKENIZATIONS[name],
        checksums={},
    )


def test_windows_follow_one_another_and_the_last_is_padded():
    split = make_split(torch.arange(10, 18), context=3)
    ((inputs, targets),) = split.batches(100)
    assert inputs.tolist() == [[10, 11, 12], [13, 14, 15], [16, 0, 0]]
    assert targets.tolist() == [[11, 12, 13], [14, 15, 16], [17, IGNORE, IGNORE]]
    assert inputs.dtype == targets.dtype == torch.int64


@pytest.mark.parametrize("length", [2, 3, 7, 8, 9, 16, 17, 50])
@pytest.mark.parametrize("context", [1, 4, 8, 100])
@pytest.mark.parametrize("seed", [None, 0])
def test_every_token_but_the_first_is_a_target_exactly_once(length, context, seed):
    split = make_split(torch.arange(length), context=context)
    pairs = []
    for inputs, targets in split.batches(3, seed=seed):
        counted = targets != IGNORE
        pairs += zip(inputs[counted].tolist(), targets[counted].tolist(), strict=True)
    assert sorted(pairs) == [(token, token + 1) for token in range(length - 1)]


@pytest.mark.parametrize("start", range(6))
def test_left_out_windows_do_not_change_those_that_follow(start):
    split = make_split(torch.arange(100), context=5)
    every = [inputs for inputs, _ in split.batches(4, seed=1)]
    rest = [inputs for inputs, _ in split.batches(4, seed=1, start=start)]
    assert len(rest) == 5 - start
    assert all(torch.equal(a, b) for a, b in zip(rest, every[start:], strict=True))


def test_the_seed_shuffles_the_windows():
    split = make_split(torch.arange(1001), context=5)
    orders = {
        seed: [x[0].item() for batch, _ in split.batches(7, seed=seed) for x in batch]
        for seed in (0, 1)
    }
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(0, 1000, 5))


@pytest.mark.parametrize(("length", "context"), [(1, 3), (0, 3), (9, 0), (9, -1), (9, 2.5)])
def test_an_impossible_stream_or_context_is_refused(length, context):
    with pytest.raises(UserError, match=r"Invalid context: |A split has "):
        make_split(torch.arange(length), context=context)


def test_language_task_without_validation():
    task = make_task("word", validation=None)
    assert task.validation is None
    assert (task.metric, task.higher_is_better, task.unit) == ("perplexity", False, "tokens")
    assert task.model_arguments == {"vocab_size": 7, "context": 16}


@pytest.mark.parametrize(("words", "characters"), [(0, 5), (5, 0)])
def test_a_split_of_no_words_is_refused(words, characters):
    with pytest.raises(UserError, match=r"words of \d characters after its first token"):
        TokenSplit(torch.arange(9), context=3, words=words, characters=characters)


def nats(split: TokenSplit, table: torch.Tensor) -> tuple[float, int]:
    """The loss of a bigram table `[vocab, vocab]` over a split, as the loop sums it."""
    loss_sum, count = 0.0, 0
    for inputs, targets in split.batches(3):
        losses = F.cross_entropy(
            table[inputs].flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="none"
        )
        loss_sum += losses.sum().item()
        count += int((targets != IGNORE).sum())
    return loss_sum, count


def measured(split: TokenSplit, loss_sum: float, count: int) -> dict[str, float]:
    return NEXT_TOKEN.measured({LOSS: (loss_sum, count)}, split.facts)


def test_a_word_is_a_token_of_the_word_tokenization():
    task = make_task("word")
    table = torch.randn(7, 7, generator=torch.Generator().manual_seed(0)).double()
    found = measured(task.test, *nats(task.test, table))
    assert found["perplexity_word"] == found["perplexity"]
    # A token takes log2(perplexity) bits, and the text has so many characters a token.
    characters, tokens = len(TEXT) - len("the"), len(TEXT.split()) + TEXT.count("\n") - 1
    bits = math.log2(found["perplexity"]) * tokens / characters
    assert found["bits_per_character"] == pytest.approx(bits, rel=1e-12)


def test_a_character_is_a_token_of_the_character_tokenization():
    task = make_task("character")
    table = torch.zeros(task.model_arguments["vocab_size"], task.model_arguments["vocab_size"])
    found = measured(task.test, nats(task.test, table.double())[0], len(TEXT) - 1)
    assert found["bits_per_character"] == pytest.approx(math.log2(len(set(TEXT))), rel=1e-12)


@pytest.mark.parametrize("name", TOKENIZATIONS)
def test_equal_nats_over_a_text_are_equal_bits_for_every_tokenization(name):
    split = make_task(name).test
    count = nats(split, torch.zeros(300, 300))[1]
    found = measured(split, 100.0, count)
    words, characters = len(TEXT.split()) + TEXT.count("\n"), len(TEXT)
    # They differ by what the first token, which is given, stands for: at most "the".
    assert 0 <= words - split.words <= 1
    assert 1 <= characters - split.characters <= 3
    assert found["perplexity_word"] == pytest.approx(math.exp(100 / split.words), rel=1e-12)
    assert found["bits_per_character"] * split.characters * math.log(2) == pytest.approx(100)


@pytest.mark.parametrize("length", [2, 17, 16 * 32 + 1, 16 * 32 + 2, 16 * 70])
def test_the_papers_perplexity_follows_its_loop(length):
    tokens = torch.randint(7, (length,), generator=torch.Generator().manual_seed(length))
    table = torch.randn(7, 7, generator=torch.Generator().manual_seed(1)).double()
    split = make_split(tokens, context=16)
    # Each batch: the mean loss over the tokens, times the tokens, divided by a full batch.
    batch_losses = []
    for inputs, targets in split.batches(32):
        mask = (targets != IGNORE).double()
        losses = F.cross_entropy(
            table[inputs].flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="none"
        )
        mean = losses.sum() / mask.sum()
        batch_losses.append((mean * mask.sum() / (32 * 16)).item())
    expected = math.exp(sum(batch_losses) / len(batch_losses))
    found = measured(split, nats(split, table)[0], length - 1)
    assert found["perplexity_paper"] == pytest.approx(expected, rel=1e-12)
    if length == 16 * 32 + 1:  # nothing is padded
        assert found["perplexity_paper"] == pytest.approx(found["perplexity"], rel=1e-12)
    else:
        assert found["perplexity_paper"] < found["perplexity"]


def test_the_papers_perplexity_of_a_half_empty_last_batch():
    # The example of the specification: 35 batches, the last one half full.
    split = make_split(torch.zeros(34 * 32 * 256 + 16 * 256 + 1, dtype=torch.int64), context=256)
    count = 34 * 32 * 256 + 16 * 256
    found = measured(split, math.log(175.0) * count, count)
    assert found["perplexity"] == pytest.approx(175.0)
    assert found["perplexity_paper"] == pytest.approx(163, abs=0.5)
