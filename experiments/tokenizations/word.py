r"""Words: the corpus's own vocabulary, with ``<eos>`` for each end of a line."""

from collections.abc import Sequence
from pathlib import Path

import torch

from experiments.errors import UserError
from experiments.tokenizations.encoding import Encoding

EOS = "<eos>"


def encode(texts: Sequence[str], *, data_dir: Path, cache_dir: Path) -> Encoding:
    r"""Encode texts as words.

    The vocabulary is that of the first text, in order of first appearance.

    Args:
        texts: The training text first.
        data_dir: Not read.
        cache_dir: Not used.

    Raises:
        UserError: If a later text has a word that the first has not.
    """
    vocabulary: dict[str, int] = {}
    streams, given = [], []
    for number, text in enumerate(texts):
        words = text.replace("\n", f" {EOS} ").split()
        if number == 0:
            for word in words:
                vocabulary.setdefault(word, len(vocabulary))
        try:
            streams.append(torch.tensor([vocabulary[word] for word in words]))
        except KeyError as error:
            raise UserError(
                f"Word {error} is not in the training text's vocabulary. This text needs another "
                "tokenization, as tokenization=bpe."
            ) from None
        first = "\n" if words[:1] == [EOS] else "".join(words[:1])
        given.append(text.index(first) + len(first))
    return Encoding(streams, given, len(vocabulary))
