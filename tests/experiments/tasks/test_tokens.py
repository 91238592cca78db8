import pytest
import torch

from experiments.errors import UserError
from experiments.tasks.task import IGNORE
from experiments.tasks.tokens import TokenSplit, language_task


def test_windows_follow_one_another_and_the_last_is_padded():
    split = TokenSplit(torch.arange(10, 18), context=3)
    ((inputs, targets),) = split.batches(100)
    assert inputs.tolist() == [[10, 11, 12], [13, 14, 15], [16, 0, 0]]
    assert targets.tolist() == [[11, 12, 13], [14, 15, 16], [17, IGNORE, IGNORE]]
    assert inputs.dtype == targets.dtype == torch.int64


@pytest.mark.parametrize("length", [2, 3, 7, 8, 9, 16, 17, 50])
@pytest.mark.parametrize("context", [1, 4, 8, 100])
@pytest.mark.parametrize("seed", [None, 0])
def test_every_token_but_the_first_is_a_target_exactly_once(length, context, seed):
    split = TokenSplit(torch.arange(length), context=context)
    pairs = []
    for inputs, targets in split.batches(3, seed=seed):
        counted = targets != IGNORE
        pairs += zip(inputs[counted].tolist(), targets[counted].tolist(), strict=True)
    assert sorted(pairs) == [(token, token + 1) for token in range(length - 1)]


@pytest.mark.parametrize("start", range(6))
def test_left_out_windows_do_not_change_those_that_follow(start):
    split = TokenSplit(torch.arange(100), context=5)
    every = [inputs for inputs, _ in split.batches(4, seed=1)]
    rest = [inputs for inputs, _ in split.batches(4, seed=1, start=start)]
    assert len(rest) == 5 - start
    assert all(torch.equal(a, b) for a, b in zip(rest, every[start:], strict=True))


def test_the_seed_shuffles_the_windows():
    split = TokenSplit(torch.arange(1001), context=5)
    orders = {
        seed: [x[0].item() for batch, _ in split.batches(7, seed=seed) for x in batch]
        for seed in (0, 1)
    }
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(0, 1000, 5))


@pytest.mark.parametrize(("length", "context"), [(1, 3), (0, 3), (9, 0), (9, -1), (9, 2.5)])
def test_an_impossible_stream_or_context_is_refused(length, context):
    with pytest.raises(UserError, match=r"Invalid context: |A split has "):
        TokenSplit(torch.arange(length), context=context)


def test_language_task_without_validation():
    stream = torch.arange(20)
    task = language_task(
        "case", train=stream, validation=None, test=stream, vocab_size=20, context=4, checksums={}
    )
    assert task.validation is None
    assert (task.metric, task.higher_is_better, task.unit) == ("perplexity", False, "tokens")
    assert task.model_arguments == {"vocab_size": 20, "context": 4}
