"""Tiny Shakespeare; the text is packed beside this file (``data/README.md``)."""

from functools import partial
from pathlib import Path

from experiments.errors import UserError
from experiments.tasks.files import DataFile, read_verified
from experiments.tasks.source import Source
from experiments.tasks.task import Task
from experiments.tasks.tokens import language_task
from experiments.tokenizations.encoding import Tokenization

FOLDER = Path(__file__).parent / "data"
FILE = DataFile(
    ("tinyshakespeare.txt.xz",), "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
)
SOURCE = Source(
    "Tiny Shakespeare: 1,115,394 characters of plays",
    size="nothing to fetch: it is part of the checkout",
    terms="public domain",
)
HINT = "It is part of the checkout: restore it with 'git checkout -- experiments/tasks/data'."


def build(
    *,
    data_dir: Path,
    cache_dir: Path,
    context: int,
    validation_fraction: float,
    test_fraction: float,
    tokenization: Tokenization,
) -> Task:
    """Build the task: training text first, then validation, then test, each in one piece.

    Args:
        data_dir: Not read: the text comes with the checkout.
        cache_dir: What the tokenisation may keep something in.
        context: Tokens a window.
        validation_fraction: Share of the text that is the validation split; 0 for none.
        test_fraction: Share of the text, its end, that is the test split.
        tokenization: Encodes the texts.

    Raises:
        UserError: If the file is missing or another one, or a fraction leaves nothing.
    """
    if not 0 <= validation_fraction < 1 or not 0 < test_fraction < 1 - validation_fraction:
        raise UserError(
            f"Invalid validation_fraction: {validation_fraction}, test_fraction: {test_fraction}. "
            "Must be >= 0 and > 0, with a sum below 1."
        )
    text = read_verified(FOLDER, FILE, hint=HINT).decode()
    test = round(len(text) * (1 - test_fraction))
    train = round(len(text) * (1 - test_fraction - validation_fraction))
    return language_task(
        "tinyshakespeare",
        train=text[:train],
        validation=text[train:test] if train < test else None,
        test=text[test:],
        context=context,
        encode=partial(tokenization, data_dir=data_dir, cache_dir=cache_dir),
        checksums={FILE.names[0]: FILE.sha256},
    )


def check(data_dir: Path, **keywords: object) -> None:
    """Raise ``UserError`` if the text is not as ``build`` needs it; arguments as there."""
    read_verified(FOLDER, FILE, hint=HINT)
