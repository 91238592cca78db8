"""A GPT decoder: the small character model and the paper's GPT-1 in one class.

Hidden states are ``[batch, time, width]``.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.errors import UserError
from experiments.models.initial import TORCH, check_init, draw_as_torch

NORMS = ("pre", "post")
INIT_STD = 0.02  # Radford et al. (2018), GPT-1, section 4.1


class GPT(nn.Module):
    """A stack of causal Transformer blocks with learned positions.

    ``norm="post"`` is GPT-1 as published: LayerNorm after each residual sum. ``norm="pre"`` is
    GPT-2 (Radford et al., 2019, section 2.3): LayerNorm before each branch and after the last
    block, and the layers that write into the residual sum start smaller by
    ``1 / sqrt(2 * layers)``.

    Args:
        vocab_size: Tokens in the vocabulary.
        context: Longest sequence.
        layers: Blocks.
        heads: Attention heads; must divide ``width``.
        width: Size of the hidden states.
        mlp_width: Size of the hidden layer of each block's GELU network.
        norm: ``pre`` or ``post``.
        dropout: Probability, on embeddings, attention weights and both branches.
        tied_head: Whether the output layer is the token embedding. It has no bias either way.
        init: Initial weights: ``gpt`` draws all from N(0, 0.02), without biases, ``torch`` leaves
            them at torch's defaults, where a tied head draws the embedding too.

    Raises:
        UserError: If an argument is out of range.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        context: int,
        layers: int,
        heads: int,
        width: int,
        mlp_width: int,
        norm: str,
        dropout: float,
        tied_head: bool,
        init: str = "gpt",
    ) -> None:
        super().__init__()
        check_init(init, "gpt")
        _check(layers=layers, heads=heads, width=width, mlp_width=mlp_width, norm=norm)
        if not 0 <= dropout < 1:
            raise UserError(f"Invalid dropout: {dropout}. Must be in [0, 1).")
        self.context = context
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.position_embedding = nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            GPTBlock(heads=heads, width=width, mlp_width=mlp_width, norm=norm, dropout=dropout)
            for _ in range(layers)
        )
        self.final_norm = nn.LayerNorm(width) if norm == "pre" else nn.Identity()
        self.head = nn.Linear(width, vocab_size, bias=False)
        if tied_head:
            self.head.weight = self.token_embedding.weight
        if init == TORCH:
            draw_as_torch(self)
        else:
            pre = norm == "pre"
            self._initialise(residual_std=INIT_STD / math.sqrt(2 * layers) if pre else None)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``[B, T]`` to logits of the next token ``[B, T, vocab_size]``."""
        time = tokens.shape[1]
        if time > self.context:
            raise ValueError(f"Sequence of {time} tokens, the context is {self.context}.")
        positions = torch.arange(time, device=tokens.device)
        hidden = self.token_embedding(tokens) + self.position_embedding(positions)
        hidden = self.dropout(hidden)
        for block in self.blocks:
            hidden = block(hidden)
        logits: Tensor = self.head(self.final_norm(hidden))
        return logits

    def _initialise(self, *, residual_std: float | None) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                is_residual = name.endswith(("attention.output", "mlp.2"))
                std = residual_std if is_residual and residual_std is not None else INIT_STD
                nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)


class GPTBlock(nn.Module):
    """Causal self-attention and a GELU network, each with a residual sum and a LayerNorm."""

    def __init__(
        self, *, heads: int, width: int, mlp_width: int, norm: str, dropout: float
    ) -> None:
        super().__init__()
        self.is_pre_norm = norm == "pre"
        self.attention_norm = nn.LayerNorm(width)
        self.attention = CausalSelfAttention(heads=heads, width=width, dropout=dropout)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp_width), nn.GELU(), nn.Linear(mlp_width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map ``[B, T, width]`` to ``[B, T, width]``."""
        if self.is_pre_norm:
            hidden = hidden + self.dropout(self.attention(self.attention_norm(hidden)))
            hidden = hidden + self.dropout(self.mlp(self.mlp_norm(hidden)))
        else:
            hidden = self.attention_norm(hidden + self.dropout(self.attention(hidden)))
            hidden = self.mlp_norm(hidden + self.dropout(self.mlp(hidden)))
        return hidden


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which a position sees itself and those before it.

    Query, key and value have a layer each, so that a curvature optimizer estimates each by itself.
    """

    def __init__(self, *, heads: int, width: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map ``[B, T, width]`` to ``[B, T, width]``."""
        query, key, value = (
            layer(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        dropout = self.attention_dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        projected: Tensor = self.output(mixed.transpose(1, 2).flatten(-2))
        return projected


def _check(*, norm: str, heads: int, width: int, **sizes: int) -> None:
    for key, value in {"heads": heads, "width": width, **sizes}.items():
        if not isinstance(value, int) or value < 1:
            raise UserError(f"Invalid {key}: {value}. Must be an integer >= 1.")
    if norm not in NORMS:
        raise UserError(f"Invalid norm: {norm}. Must be one of {', '.join(NORMS)}.")
    if width % heads:
        raise UserError(f"Invalid heads: {heads}. Must divide width {width}.")
