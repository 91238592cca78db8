"""Characters: each is a token."""

from collections.abc import Sequence
from pathlib import Path

import torch

from experiments.tokenizations.encoding import Encoding


def encode(texts: Sequence[str], *, data_dir: Path, cache_dir: Path) -> Encoding:
    """Encode texts as characters.

    The vocabulary is the sorted set of the characters of all texts: a corpus says which characters
    it is written in.

    Args:
        texts: The training text first.
        data_dir: Not read.
        cache_dir: Not used.
    """
    vocabulary = sorted(set().union(*texts))
    index = {character: number for number, character in enumerate(vocabulary)}
    streams = [torch.tensor([index[character] for character in text]) for text in texts]
    return Encoding(streams, [1] * len(texts), len(vocabulary))
