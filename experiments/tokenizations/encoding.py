r"""What every tokenisation gives, and what it is measured by: the words and characters of a text.

A text is lines, each ended by ``\n``. It has one word for each run of characters without white
space and one for each ``\n`` (the corpora's ``<eos>``), and its characters include white space and
``\n``. So both counts are the same for every tokenisation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from tokenizers import Tokenizer
from torch import Tensor

Tokenization = Callable[..., "Encoding"]
"""``encode(texts, *, data_dir, cache_dir)``; the first text is the training text."""


@dataclass(frozen=True)
class Encoding:
    """Texts as tokens.

    Attributes:
        streams: One a text, int64 ``[tokens]``.
        given_characters: For each text, how many characters its first token stands for. A stream's
            first token is given and never predicted.
        vocab_size: Different tokens that there can be.
        checksums: sha256 of what was read or trained, by file.
    """

    streams: list[Tensor]
    given_characters: list[int]
    vocab_size: int
    checksums: dict[str, str] = field(default_factory=dict)


def predicted_units(text: str, given: int) -> tuple[int, int]:
    r"""Count the words and characters of a text of which the first ``given`` characters are known.

    A word counts if its end is not among those characters.

    Example:
        >>> predicted_units("the cat\n", 3), predicted_units("the cat\n", 2)
        ((2, 5), (3, 6))
    """
    known = text[:given]
    ended = _words(known)
    if known[-1:].strip() and text[given : given + 1].strip():
        ended -= 1  # the last known word goes on
    return _words(text) - ended, len(text) - given


def lines(text: str) -> list[str]:
    r"""Split a text into lines with their ``\n``; ``str.splitlines`` would also break elsewhere."""
    *whole, rest = text.split("\n")
    return [*(f"{line}\n" for line in whole), *([rest] if rest else [])]


def encode_lines(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    line_end: int | None,
    offset: int = 0,
    vocab_size: int,
    checksums: dict[str, str],
) -> Encoding:
    r"""Encode texts line by line, so that no token reaches over the end of a line.

    Args:
        tokenizer: Of the ``tokenizers`` library.
        texts: What to encode.
        line_end: Token that stands for each ``\n``, which the tokenizer then does not see; None if
            the tokenizer has its own.
        offset: Added to the tokenizer's ids, which leaves the ids below it unused.
        vocab_size: Different tokens, the unused included.
        checksums: sha256 of what the tokenizer was made from.
    """
    streams, given = [], []
    for text in texts:
        parts = lines(text)
        seen = parts if line_end is None else [part.removesuffix("\n") for part in parts]
        encoded = tokenizer.encode_batch_fast(seen, add_special_tokens=False)
        ids: list[int] = []
        for part, line in zip(parts, encoded, strict=True):
            ids += line.ids
            if line_end is not None and part.endswith("\n"):
                ids.append(line_end)
        streams.append(torch.tensor(ids, dtype=torch.int64) + offset)
        given.append(_first_token_characters(tokenizer, parts, has_line_end=line_end is not None))
    return Encoding(streams, given, vocab_size, checksums)


def _first_token_characters(tokenizer: Tokenizer, parts: list[str], *, has_line_end: bool) -> int:
    passed = 0
    for part in parts:
        seen = part.removesuffix("\n") if has_line_end else part
        spans = tokenizer.encode(seen, add_special_tokens=False).offsets
        if spans:
            return passed + int(spans[0][1])
        if part.endswith("\n"):
            return passed + len(part)
        passed += len(part)
    return passed


def _words(text: str) -> int:
    return len(text.split()) + text.count("\n")
