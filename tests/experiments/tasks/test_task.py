import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.tasks.images import ImageSplit, Normalization
from experiments.tasks.objective import CLASSIFICATION, LOSS, Objective
from experiments.tasks.task import Split, Task
from experiments.tasks.tokens import NEXT_TOKEN, TokenSplit

COUNT = 53
IMAGES = torch.randint(256, (COUNT, 1, 4, 4), generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(COUNT) % 5
TOKENS = torch.randint(7, (COUNT,), generator=torch.Generator().manual_seed(1))
IMAGE_SPLIT = ImageSplit(
    IMAGES.to(torch.uint8), LABELS, normalization=Normalization((0.5,), (0.25,))
)
TOKEN_SPLIT = TokenSplit(TOKENS, context=5, words=20, characters=100)


def make_task(objective: Objective, split: Split) -> Task:
    return Task(
        name="case",
        objective=objective,
        unit="images",
        train=split,
        validation=None,
        test=split,
        model_arguments={},
    )


def evaluate(task: Task, logits_of: Tensor, batch_size: int) -> tuple[dict[str, float], int]:
    """Sum over batches as the loop does; `logits_of` maps flattened inputs to logits."""
    found: dict[str, tuple[float, float]] = {}
    for inputs, targets in task.test.batches(batch_size):
        if inputs.is_floating_point():
            logits = inputs.flatten(1).double() @ logits_of
        else:
            logits = logits_of[inputs]
        for name, pair in task.objective.sums(logits, targets).items():
            before = found.get(name, (0.0, 0.0))
            found[name] = (before[0] + pair[0], before[1] + pair[1])
    return task.objective.measured(found, task.test.facts), int(found[LOSS][1])


@pytest.mark.parametrize("batch_size", [1, 2, 7, 26, 52, 53, 1000])
def test_image_metrics_are_the_same_for_any_evaluation_batch_size(batch_size):
    weight = torch.randn(16, 5, generator=torch.Generator().manual_seed(2)).double()
    logits = ((IMAGES / 255 - 0.5) / 0.25).flatten(1).double() @ weight
    found, count = evaluate(make_task(CLASSIFICATION, IMAGE_SPLIT), weight, batch_size)
    assert count == COUNT
    hits = (logits.argmax(-1) == LABELS).double().mean().item()
    assert found["accuracy_percent"] == pytest.approx(100 * hits, abs=1e-12)
    assert found["loss"] == pytest.approx(F.cross_entropy(logits, LABELS).item(), rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 10, 11, 1000])
def test_token_metrics_are_the_same_for_any_evaluation_batch_size(batch_size):
    table = torch.randn(7, 7, generator=torch.Generator().manual_seed(3)).double()
    found, count = evaluate(make_task(NEXT_TOKEN, TOKEN_SPLIT), table, batch_size)
    loss = F.cross_entropy(table[TOKENS[:-1]], TOKENS[1:]).item()
    assert count == COUNT - 1
    assert found["loss"] == pytest.approx(loss, rel=1e-12)
    assert found["perplexity"] == pytest.approx(math.exp(loss), rel=1e-12)


def test_perplexity_of_a_uniform_guess_is_the_vocabulary_size():
    found, _ = evaluate(make_task(NEXT_TOKEN, TOKEN_SPLIT), torch.zeros(7, 7).double(), 4)
    assert found["perplexity"] == pytest.approx(7.0)


def test_perplexity_of_a_huge_loss_is_infinite():
    assert NEXT_TOKEN.measured({LOSS: (1e6, 1)}, TOKEN_SPLIT.facts)["perplexity"] == math.inf


@pytest.mark.parametrize("split", [IMAGE_SPLIT, TOKEN_SPLIT], ids=["images", "tokens"])
@pytest.mark.parametrize("batch_size", [1, 3, 11, 53, 100])
def test_num_batches_is_what_a_pass_yields(split, batch_size):
    for seed in (None, 0):
        sizes = [len(targets) for _, targets in split.batches(batch_size, seed=seed)]
        assert len(sizes) == split.num_batches(batch_size)
        assert sum(sizes) == len(split)
        assert set(sizes[:-1]) <= {batch_size}


@pytest.mark.parametrize(
    ("batch_size", "start", "name"), [(0, 0, "batch_size"), (-1, 0, "batch_size"), (1, -1, "start")]
)
def test_an_impossible_batch_is_refused(batch_size, start, name):
    with pytest.raises(ValueError, match=f"Invalid {name}: "):
        next(IMAGE_SPLIT.batches(batch_size, start=start))
