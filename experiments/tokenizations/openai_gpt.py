r"""The byte-pair encoding of OpenAI's GPT, read from its published files.

Text is lower-cased, stripped of accents, and split at white space and punctuation; a word's last
piece ends with ``</w>``.

Reference:
    Radford et al. (2018), "Improving Language Understanding by Generative Pre-Training", section
    4.1: 40,000 merges.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from experiments.errors import UserError
from experiments.tokenizations.encoding import Encoding, encode_lines

FOLDER = "openai-gpt"
LAYOUTS = (("encoder_bpe_40000.json", "vocab_40000.bpe"), ("vocab.json", "merges.txt"))
"""OpenAI's file names, then Hugging Face's: token to id, and the merges in order."""
HINT = (
    f"tokenization=openai_gpt reads data_dir/{FOLDER}/ with {' and '.join(LAYOUTS[0])} (OpenAI's "
    f"names) or {' and '.join(LAYOUTS[1])} (Hugging Face's). Put them there, or choose another "
    "tokenization."
)
UNKNOWN = "<unk>"
LINE_END = "\n</w>"


def encode(texts: Sequence[str], *, data_dir: Path, cache_dir: Path, padding_ids: int) -> Encoding:
    r"""Encode texts by the published vocabulary.

    Each ``\n`` becomes the vocabulary's own token for it. What the vocabulary cannot spell, and the
    corpora's ``<unk>``, become its ``<unk>``.

    Args:
        texts: What to encode.
        data_dir: Holds the folder ``openai-gpt``.
        cache_dir: Not used.
        padding_ids: Ids before the first of the vocabulary, for padding; they never occur.

    Raises:
        UserError: If a file is missing or not in its layout, or ``padding_ids`` is negative.
    """
    check(data_dir, padding_ids=padding_ids)
    vocabulary_path, merges_path = locate(data_dir)
    vocabulary = _read_vocabulary(vocabulary_path)
    tokenizer = _tokenizer(vocabulary, _read_merges(merges_path), merges_path)
    return encode_lines(
        tokenizer,
        texts,
        line_end=vocabulary.get(LINE_END, vocabulary[UNKNOWN]),
        offset=padding_ids,
        vocab_size=len(vocabulary) + padding_ids,
        checksums={
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (vocabulary_path, merges_path)
        },
    )


def check(data_dir: Path, *, padding_ids: int) -> None:
    """Raise ``UserError`` if a file is missing or an argument bad; arguments as in ``encode``."""
    if padding_ids < 0:
        raise UserError(f"Invalid tokenization.padding_ids: {padding_ids}. Must be >= 0.")
    locate(data_dir)


def locate(data_dir: Path) -> tuple[Path, Path]:
    """Return the paths of the vocabulary and of the merges.

    Raises:
        UserError: If neither pair of files is there.
    """
    folder = data_dir / FOLDER
    for names in LAYOUTS:
        vocabulary, merges = (folder / name for name in names)
        if vocabulary.is_file() and merges.is_file():
            return vocabulary, merges
    raise UserError(f"Tokenizer files are missing in {folder}. {HINT}")


def _read_vocabulary(path: Path) -> dict[str, int]:
    try:
        vocabulary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"Tokenizer file {path} cannot be read: {error}. {HINT}") from None
    if not isinstance(vocabulary, dict) or UNKNOWN not in vocabulary:
        raise UserError(f"Tokenizer file {path} holds no vocabulary with {UNKNOWN}. {HINT}")
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise UserError(f"Tokenizer file {path} does not number its tokens from 0 on. {HINT}")
    return vocabulary


def _read_merges(path: Path) -> list[tuple[str, str]]:
    """Read merges, one a line as ``left right``; a first line ``#version: ...`` is none."""
    try:
        rows = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise UserError(f"Tokenizer file {path} cannot be read: {error}. {HINT}") from None
    merges = []
    for number, row in enumerate(rows, start=1):
        if not row.strip() or (number == 1 and row.startswith("#version")):
            continue
        left, _, right = row.strip().partition(" ")
        if not right or " " in right:
            raise UserError(f"Tokenizer file {path}: line {number} is no pair of tokens. {HINT}")
        merges.append((left, right))
    return merges


def _tokenizer(
    vocabulary: dict[str, int], merges: list[tuple[str, str]], merges_path: Path
) -> Tokenizer:
    try:
        model = models.BPE(
            vocab=vocabulary,
            merges=merges,
            unk_token=UNKNOWN,
            end_of_word_suffix="</w>",
            fuse_unk=False,
        )
    except Exception as error:  # the library's own exceptions have no common class
        raise UserError(
            f"Tokenizer file {merges_path} does not fit its vocabulary: {error}. {HINT}"
        ) from None
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens([UNKNOWN])  # so that the corpora's `<unk>` is not spelled out
    return tokenizer
