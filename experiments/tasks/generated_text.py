"""Generated words, so that language models and methods are tried without a corpus."""

import hashlib
from functools import partial
from pathlib import Path

import torch

from experiments.errors import UserError
from experiments.tasks.source import Source
from experiments.tasks.task import Task
from experiments.tasks.tokens import language_task
from experiments.tokenizations.encoding import Tokenization

SOURCE = Source(
    "Generated words in a fixed order",
    size="nothing to fetch",
    terms="none: they are made up",
    made_up=True,
)


def build(
    *,
    data_dir: Path,
    cache_dir: Path,
    context: int,
    tokenization: Tokenization,
    words: int,
    train_lines: int,
    test_lines: int,
    data_seed: int,
) -> Task:
    """Build the task: lines in which most words follow the one before them in a fixed order.

    Args:
        data_dir: What the tokenisation may read from.
        cache_dir: What the tokenisation may keep something in.
        context: Tokens a window, and words a line.
        tokenization: Encodes the texts.
        words: Different words; the training text has all of them.
        train_lines: Lines to train on, besides one with every word.
        test_lines: Lines of the validation text, and of the test text.
        data_seed: Fixes the text; it is not the run's seed.

    Raises:
        UserError: If a count is not positive.
    """
    check(
        data_dir,
        context=context,
        words=words,
        train_lines=train_lines,
        test_lines=test_lines,
    )
    generator = torch.Generator().manual_seed(data_seed)

    def text(lines: int) -> str:
        starts = torch.randint(words, (lines, 1), generator=generator)
        jumps = torch.randint(words, (lines, context), generator=generator)
        is_jump = torch.rand(lines, context, generator=generator) < 0.1
        numbers = (starts + torch.arange(context) + jumps * is_jump) % words
        return "".join(" ".join(f"w{n}" for n in line) + "\n" for line in numbers.tolist())

    everything = " ".join(f"w{number}" for number in range(words)) + "\n"
    train, validation, test = everything + text(train_lines), text(test_lines), text(test_lines)
    digest = hashlib.sha256("\0".join((train, validation, test)).encode()).hexdigest()
    return language_task(
        "generated_text",
        train=train,
        validation=validation,
        test=test,
        context=context,
        encode=partial(tokenization, data_dir=data_dir, cache_dir=cache_dir),
        checksums={"generated": digest},
    )


def check(data_dir: Path, **counts: object) -> None:
    """Raise ``UserError`` if a count of ``build`` that is given is not positive."""
    for key in ("context", "words", "train_lines", "test_lines"):
        value = counts.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"Invalid task.{key}: {value}. Must be a whole number >= 1.")
