"""Corpora of words: three files of one sentence or paragraph a line."""

from collections.abc import Callable
from pathlib import Path

from experiments.tasks.files import DataFile, read_verified
from experiments.tasks.task import Task
from experiments.tasks.tokens import language_task
from experiments.tokenizations.encoding import Encoding, lines


def word_task(
    name: str,
    *,
    folder: Path,
    files: tuple[DataFile, ...],
    hint: str,
    context: int,
    encode: Callable[[list[str]], Encoding],
) -> Task:
    """Read the official training, validation and test files, and make the task.

    Args:
        name: Name of the task.
        folder: Where the files lie.
        files: Training, validation and test file.
        hint: What would provide them; the end of an error message.
        context: Tokens a window.
        encode: Encodes the texts, the training text first.

    Raises:
        UserError: If a file is missing, truncated, or another one.
    """
    train, validation, test = (
        plain(read_verified(folder, file, hint=hint).decode()) for file in files
    )
    return language_task(
        name,
        train=train,
        validation=validation,
        test=test,
        context=context,
        encode=encode,
        checksums={file.names[0]: file.sha256 for file in files},
    )


def plain(text: str) -> str:
    r"""Write words with one space between them and a ``\n`` after each line.

    The white space of these files carries nothing: in this form a text and its sequence of words
    and line ends say the same, so that every tokenisation is measured on the same characters.

    Args:
        text: A line ends with ``\n`` and nothing else; blank lines count.
    """
    whole = text if text.endswith("\n") else f"{text}\n"
    return "".join(" ".join(line.split()) + "\n" for line in lines(whole))
