"""The language model of AdaFisher's released code: a GPT on the frozen embeddings of OpenAI's."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from experiments.errors import UserError, one_line
from experiments.models.gpt import GPT

FILES = ("model.safetensors", "pytorch_model.bin")
TOKENS, POSITIONS = "tokens_embed.weight", "positions_embed.weight"
HINT = (
    f"model=gpt1_mini_released reads data_dir/openai-gpt/ with {' or '.join(FILES)} "
    "(huggingface.co/openai-community/openai-gpt). Put it there, or choose model=gpt1_mini."
)


class FrozenEmbeddingGPT(GPT):
    """A ``GPT`` whose token and position embeddings are read from a file and not trained.

    A tied output layer is the token embedding, so it is not trained either. An id that the
    vocabulary has before those of the file is padding: its embedding is zero. (The released code
    does not tell what its row 0 holds; no token of a text has that id.)

    Args:
        vocab_size: Tokens in the vocabulary: as many as the file has, or one more.
        context: Longest sequence; the file has 512 positions.
        weights_dir: Folder of the file.
        layers: As in ``GPT``, like all that follow.
        heads: See ``GPT``.
        width: See ``GPT``; the file has 768.
        mlp_width: See ``GPT``.
        norm: See ``GPT``.
        dropout: See ``GPT``.
        tied_head: See ``GPT``.
        init: See ``GPT``; of all but the embeddings.

    Attributes:
        checksums: sha256 of the file, by its name.

    Raises:
        UserError: If the file is missing, unreadable, or of other sizes.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        context: int,
        weights_dir: str,
        layers: int,
        heads: int,
        width: int,
        mlp_width: int,
        norm: str,
        dropout: float,
        tied_head: bool,
        init: str = "gpt",
    ) -> None:
        super().__init__(
            vocab_size=vocab_size,
            context=context,
            layers=layers,
            heads=heads,
            width=width,
            mlp_width=mlp_width,
            norm=norm,
            dropout=dropout,
            tied_head=tied_head,
            init=init,
        )
        path = locate(weights_dir)
        tokens, positions = _read(path)
        self.checksums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}
        padding = vocab_size - len(tokens)
        if padding not in (0, 1) or tokens.shape[1] != width:
            raise UserError(
                f"Embeddings in {path} are of {len(tokens)} tokens and width {tokens.shape[1]}; "
                f"the model has {vocab_size} and {width}. They need tokenization=openai_gpt."
            )
        if len(positions) < context:
            raise UserError(f"Invalid context: {context}. Must be <= {len(positions)}, as {path}.")
        with torch.no_grad():
            self.token_embedding.weight[:padding] = 0.0
            self.token_embedding.weight[padding:] = tokens
            self.position_embedding.weight.copy_(positions[:context])
        for embedding in (self.token_embedding, self.position_embedding):
            embedding.weight.requires_grad_(False)


def locate(weights_dir: str) -> Path:
    """Return the path of the file of embeddings.

    Raises:
        UserError: If it is not there.
    """
    folder = Path(weights_dir).expanduser()
    for name in FILES:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"Embeddings are missing in {folder}. {HINT}")


def check(*, weights_dir: str) -> None:
    """Raise ``UserError`` if the file of embeddings is not there."""
    locate(weights_dir)


def _read(path: Path) -> tuple[Tensor, Tensor]:
    """Token embeddings ``[tokens, width]`` and position embeddings ``[positions, width]``."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Mapping[str, Tensor] = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        # Some copies name everything below the whole model.
        names = {name.removeprefix("transformer."): name for name in state}
        return state[names[TOKENS]], state[names[POSITIONS]]
    except KeyError as error:
        raise UserError(f"Embeddings file {path} lacks {error}. {HINT}") from None
    except Exception as error:  # two libraries' many ways to say that a file is damaged
        reason = one_line(error)
        raise UserError(f"Embeddings file {path} cannot be read: {reason}. {HINT}") from None
