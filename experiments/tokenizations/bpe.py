"""Byte-pair encoding of bytes, trained on the training text.

Reference:
    Sennrich, Haddow, Birch (2016), arXiv 1508.07909, section 3.2; over bytes: Radford et al.
    (2019), GPT-2, section 2.2.
"""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from experiments.errors import UserError
from experiments.tokenizations.encoding import Encoding, encode_lines, lines

logger = logging.getLogger(__name__)

BYTES = 256


def encode(
    texts: Sequence[str], *, data_dir: Path, cache_dir: Path, vocab_size: int, min_frequency: int
) -> Encoding:
    r"""Encode texts with a vocabulary that is trained on the first, once.

    Every text is a sequence of tokens, and they give it back byte for byte: all bytes are tokens,
    and there is no unknown one. A line ends with the token of ``\n``.

    Args:
        texts: The training text first.
        data_dir: Not read.
        cache_dir: Keeps the trained vocabulary.
        vocab_size: Tokens at most; fewer where the text is too short for them.
        min_frequency: How often a pair has to occur to be merged.

    Raises:
        UserError: If an argument is out of range.
    """
    check(vocab_size=vocab_size, min_frequency=min_frequency)
    tokenizer = trained(texts[0], cache_dir, vocab_size=vocab_size, min_frequency=min_frequency)
    checksum = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
    return encode_lines(
        tokenizer,
        texts,
        line_end=None,
        vocab_size=tokenizer.get_vocab_size(),
        checksums={f"bpe-{vocab_size}.json": checksum},
    )


def check(*, vocab_size: int, min_frequency: int) -> None:
    """Raise ``UserError`` if an argument is out of range; arguments as in ``encode``."""
    if vocab_size < BYTES:
        raise UserError(
            f"Invalid tokenization.vocab_size: {vocab_size}. Must be >= {BYTES}, one for each byte."
        )
    if min_frequency < 1:
        raise UserError(f"Invalid tokenization.min_frequency: {min_frequency}. Must be >= 1.")


def trained(text: str, cache_dir: Path, *, vocab_size: int, min_frequency: int) -> Tokenizer:
    """Return the tokenizer of this text and these arguments, from the cache or newly trained.

    The cache's file is named by a hash of text, arguments and library version, and begins with the
    sha256 of the rest: one that is corrupt is trained again, one that cannot be written is skipped.
    """
    settings = json.dumps([vocab_size, min_frequency, tokenizers.__version__])
    key = hashlib.sha256(f"{settings}\n{text}".encode()).hexdigest()
    path = cache_dir / f"bpe-{vocab_size}-{key[:16]}.json"
    with suppress(OSError, ValueError):
        checksum, _, content = path.read_text(encoding="utf-8").partition("\n")
        if hashlib.sha256(content.encode()).hexdigest() == checksum:
            return Tokenizer.from_str(content)
    logger.info("training %d byte pairs: once, then they are read from %s", vocab_size, cache_dir)
    tokenizer = train(text, vocab_size=vocab_size, min_frequency=min_frequency)
    content = tokenizer.to_str()
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with suppress(OSError):
        cache_dir.mkdir(parents=True, exist_ok=True)
        checksum = hashlib.sha256(content.encode()).hexdigest()
        temporary.write_text(f"{checksum}\n{content}", encoding="utf-8")
        temporary.replace(path)
    return tokenizer


def train(text: str, *, vocab_size: int, min_frequency: int) -> Tokenizer:
    """Train a tokenizer on the lines of a text; the same text gives the same tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    # GPT-2's: a word keeps the space before it, and no token reaches over the end of a word.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        show_progress=False,
        special_tokens=[],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(lines(text), trainer)
    return tokenizer
