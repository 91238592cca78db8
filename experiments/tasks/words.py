"""Word-level language data: three files of one sentence or paragraph a line."""

from pathlib import Path

import torch
from torch import Tensor

from experiments.errors import UserError
from experiments.tasks.files import DataFile, read_verified
from experiments.tasks.task import Task
from experiments.tasks.tokens import language_task


def word_task(
    name: str, *, folder: Path, files: tuple[DataFile, ...], hint: str, context: int
) -> Task:
    """Read the official training, validation and test files, and make the task.

    Args:
        name: Name of the task.
        folder: Where the files lie.
        files: Training, validation and test file.
        hint: What would provide them; the end of an error message.
        context: Tokens a window.

    Raises:
        UserError: If a file is missing, truncated, or another one.
    """
    texts = [read_verified(folder, file, hint=hint).decode() for file in files]
    (train, validation, test), vocabulary = word_streams(texts)
    return language_task(
        name,
        train=train,
        validation=validation,
        test=test,
        vocab_size=len(vocabulary),
        context=context,
        checksums={file.names[0]: file.sha256 for file in files},
    )


def word_streams(texts: list[str]) -> tuple[list[Tensor], list[str]]:
    r"""Encode texts of one sentence or paragraph a line as words and ``<eos>``.

    Every line gives its space-separated words and one ``<eos>``, blank lines too. The vocabulary is
    that of the first text, in order of first appearance.

    Args:
        texts: The training text first. A line ends with ``\n`` and nothing else.

    Returns:
        One int64 stream a text, and the vocabulary.

    Raises:
        UserError: If a later text has a word that the first has not.
    """
    vocabulary: dict[str, int] = {}
    streams = []
    for number, text in enumerate(texts):
        lines = text.removesuffix("\n").split("\n")
        words = [word for line in lines for word in (*line.split(), "<eos>")]
        if number == 0:
            for word in words:
                vocabulary.setdefault(word, len(vocabulary))
        try:
            streams.append(torch.tensor([vocabulary[word] for word in words]))
        except KeyError as error:
            raise UserError(f"Word {error} is not in the training text's vocabulary.") from None
    return streams, list(vocabulary)
