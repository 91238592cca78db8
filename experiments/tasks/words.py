"""Corpora of words: three files of one sentence or paragraph a line."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from experiments.tasks.files import DataFile, read_verified
from experiments.tasks.task import Task
from experiments.tasks.tokens import language_task
from experiments.tokenizations.encoding import Tokenization, lines


@dataclass(frozen=True)
class WordTask:
    """One of the corpora, as a table of what they differ in.

    Attributes:
        name: Name of the task.
        folder: Where the files lie, below the data folder.
        files: Training, validation and test file.
        hint: What would provide them; the end of an error message.
    """

    name: str
    folder: str
    files: tuple[DataFile, ...]
    hint: str

    def build(
        self, *, data_dir: Path, cache_dir: Path, context: int, tokenization: Tokenization
    ) -> Task:
        """Build the task.

        Args:
            data_dir: Holds the folder of the files.
            cache_dir: What the tokenisation may keep something in.
            context: Tokens a window.
            tokenization: Encodes the texts, the training text first.

        Raises:
            UserError: If a file is missing, truncated, or another one.
        """
        train, validation, test = (plain(text.decode()) for text in self._read(data_dir))
        return language_task(
            self.name,
            train=train,
            validation=validation,
            test=test,
            context=context,
            encode=partial(tokenization, data_dir=data_dir, cache_dir=cache_dir),
            checksums={file.names[0]: file.sha256 for file in self.files},
        )

    def check(self, data_dir: Path, **keywords: object) -> None:
        """Raise ``UserError`` if the data are not as ``build`` needs them; arguments as there."""
        for _ in self._read(data_dir):
            pass

    def _read(self, data_dir: Path) -> Iterator[bytes]:
        for file in self.files:
            yield read_verified(data_dir / self.folder, file, hint=self.hint)


def plain(text: str) -> str:
    r"""Write words with one space between them and a ``\n`` after each line.

    The white space of these files carries nothing: in this form a text and its sequence of words
    and line ends say the same, so that every tokenisation is measured on the same characters.

    Args:
        text: A line ends with ``\n`` and nothing else; blank lines count.
    """
    whole = text if text.endswith("\n") else f"{text}\n"
    return "".join(" ".join(line.split()) + "\n" for line in lines(whole))
