"""The best constant prediction: by hand, by counting, and by where models that collapsed ended."""

import math
from collections import Counter

import pytest
import torch

from experiments.engine.build import build_task
from experiments.likelihood import BERNOULLI, CATEGORICAL, Likelihood
from experiments.tasks.constant import constant_prediction
from experiments.tasks.objective import IGNORE
from experiments.tasks.own import Metric, task
from experiments.tasks.task import Task
from experiments.tasks.tokens import NEXT_TOKEN, TokenSplit

MEASURED = {  # on validation: of runs that collapsed, and of counts, made before this code
    "digits_autoencoder": ("squared_error", 4.776, 0.001),
    "tinyshakespeare": ("perplexity", 28.0, 0.05),
}


@pytest.mark.parametrize("name", MEASURED)
def test_it_is_what_was_measured_otherwise(make_config, name):
    metric, value, tolerance = MEASURED[name]
    built = build_task(make_config(f"task={name}"))
    found = constant_prediction(built, built.validation)
    assert found[metric] == pytest.approx(value, abs=tolerance)


def test_the_most_frequent_class_of_train_is_predicted(make_config):
    built = build_task(make_config("task=digits"))
    (guess, _), *_ = Counter(built.train.labels.tolist()).most_common(1)
    labels = built.test.labels.tolist()
    found = constant_prediction(built, built.test)
    assert found["accuracy_percent"] == pytest.approx(100 * labels.count(guess) / len(labels))
    assert found["loss"] == pytest.approx(math.log(10), abs=0.01)  # ten classes, about as frequent


def test_of_text_it_is_the_unigram_model():
    seen, asked = [0, 1, 1, 2, 1, 0, 1, 1, 3, 1], [1, 2, 0, 1, 1]
    train, test = (
        TokenSplit(torch.tensor(text), context=4, words=2, characters=7) for text in (seen, asked)
    )
    made = Task("text", NEXT_TOKEN, "tokens", train, None, test, {})
    assert (test.targets == IGNORE).sum() == 0
    assert (train.targets == IGNORE).sum() == 3
    counts = Counter(seen[1:])
    share = {token: (counts[token] + 1) / (len(seen) - 1 + 4) for token in range(4)}
    nats = -sum(math.log(share[token]) for token in asked[1:])
    found = constant_prediction(made, test)
    assert found["loss"] == pytest.approx(nats / 4)
    assert found["perplexity"] == pytest.approx(math.exp(nats / 4))
    assert found["bits_per_character"] == pytest.approx(nats / 7 / math.log(2))


def own(kind: str, loss, targets, *, asked, metric=None):
    pairs = [(torch.zeros(len(rows), 1), torch.tensor(rows)) for rows in (targets, asked)]
    return task(
        model=lambda: torch.nn.Linear(1, 1),
        loss=loss,
        metrics=[metric or Metric("m", higher_is_better=False, terms=loss)],
        likelihood=None if kind == "none" else Likelihood(kind),
        train=pairs[0],
        validation=0,
        test=pairs[1],
    )


def test_of_binary_answers_it_is_their_share():
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    made = own(
        BERNOULLI,
        lambda outputs, targets: loss(outputs, targets, reduction="none"),
        [[1.0], [0.0], [0.0], [0.0]],
        asked=[[1.0], [0.0]],
    )
    found = constant_prediction(made, made.test)
    assert found["loss"] == pytest.approx(-(math.log(0.25) + math.log(0.75)) / 2)


@pytest.mark.parametrize(
    "made",
    [
        own("none", lambda o, t: (o - t).square(), [[1.0]], asked=[[1.0]]),
        own("gaussian", lambda o, t: (o.squeeze(1) - t).square(), [1.0], asked=[1.0]),
        own(
            CATEGORICAL,
            lambda o, t: torch.nn.functional.cross_entropy(o, t, reduction="none"),
            [0, 1],
            asked=[1],
            metric=Metric("iou", True, terms=lambda o, t: (o.argmax(1) == t, o.argmax(1) >= 0)),
        ),
    ],
    ids=["no likelihood", "outputs of another shape", "a metric of two sums"],
)
def test_where_nothing_is_known_nothing_is_said(made):
    assert constant_prediction(made, made.test) is None
    assert constant_prediction(made, None) is None


def test_a_part_of_train_has_a_constant_of_its_own(make_config):
    built = build_task(make_config("task=digits_autoencoder", "task.train_limit=3"))
    image = built.train.targets.mean(0)
    errors = (built.test.targets - image).square().sum(1)
    found = constant_prediction(built, built.test)
    assert found["squared_error"] == pytest.approx(errors.mean().item(), rel=1e-6)


@pytest.mark.parametrize("name", ["rosenbrock", "noisy_quadratic"])
def test_a_function_has_none(make_config, name):
    built = build_task(make_config(f"task={name}"))
    assert constant_prediction(built, built.test) is None
