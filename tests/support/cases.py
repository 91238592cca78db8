"""Small models as named data: one for every layer kind and way of using it.

A case gives a freshly seeded float64 model and the batches to train it on. ``id`` reads as the
thing that the case is about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.reference import ExplicitAttention


@dataclass(frozen=True)
class Case:
    """A model and its batches.

    Attributes:
        id: Readable name.
        build: Makes the model; called under a fixed seed.
        shape: Shape of a batch.
        tokens: Number of token ids if the input is integers, else 0.
        covered: Whether every parameter belongs to a supported layer.
        reference: Makes a model that computes the same from plain layers, with the same parameters
            in the same order; for models whose layers the reference does not know.
        embeddings: Whether embeddings have curvature.
    """

    id: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    tokens: int = 0
    covered: bool = True
    reference: Callable[[], nn.Module] | None = None
    embeddings: bool = False

    def model(self, seed: int = 0) -> nn.Module:
        """The model in float64, the same for the same seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.build().double()

    def reference_model(self, seed: int = 0) -> nn.Module:
        """A model for the reference, equal to ``model(seed)``."""
        if self.reference is None:
            return self.model(seed)
        model = self.reference().double()
        model.train(self.model(seed).training)
        pairs = zip(model.parameters(), self.model(seed).parameters(), strict=True)
        for mine, theirs in pairs:
            mine.data.copy_(theirs.data)
        return model

    def batch(self, index: int) -> Tensor:
        """Batch number ``index``."""
        generator = torch.Generator().manual_seed(1000 + index)
        if self.tokens:
            return torch.randint(self.tokens, self.shape, generator=generator)
        return torch.randn(self.shape, generator=generator, dtype=torch.float64)


def loss_of(output: Tensor, index: int) -> Tensor:
    """Scaled mean squared distance to targets that depend on the batch number alone.

    A step is up to lr / damping = 1 times the momentum with the defaults; the scale keeps training
    stable, so that rounding errors do not grow.
    """
    generator = torch.Generator().manual_seed(2000 + index)
    target = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    return 0.05 * (output - target.to(output.dtype)).square().mean()


class Subclass(nn.Linear):
    """A user's own linear layer."""


class TwoHeads(nn.Module):
    """Two linear layers that share one weight but not the bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        """Chain them."""
        return self.second(self.first(x).tanh())


class TiedConvolutions(nn.Module):
    """A grouped and a dense convolution that share one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.dense = nn.Conv2d(2, 4, 3)
        self.dense.weight = self.grouped.weight

    def forward(self, x: Tensor) -> Tensor:
        """Use the first two of the grouped layer's output channels."""
        return self.dense(self.grouped(x)[:, :2].sigmoid())


class Recurrent(nn.Module):
    """One layer called three times, on inputs of different size."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to all rows, then to half of them."""
        x = self.cell(x).tanh()
        x = self.cell(x).tanh()
        return self.cell(x[: x.shape[0] // 2])


class Keyword(nn.Module):
    """A layer called with its input as a keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Call by keyword."""
        return self.layer(input=x)


class InputOverwritten(nn.Module):
    """The input of a layer is changed in place after the layer read it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 3)
        self.head.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Overwrite the head's input; its weight is frozen, so autograd allows it."""
        hidden = self.norm(x) * 1.0
        output = self.head(hidden)
        hidden.mul_(100.0)
        return output


class TokenModel(nn.Module):
    """Embedding, free position parameter, norm, and a head tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.positions = nn.Parameter(torch.randn(5, 4) * 0.1)
        self.norm = nn.LayerNorm(4)
        self.mlp = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 4))
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits ``[batch, tokens, 7]``."""
        x = self.embedding(tokens) + self.positions
        return self.head(x + self.mlp(self.norm(x)))


class MultipliedByHand(nn.Module):
    """A layer whose weight is read without calling the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.called = nn.Linear(4, 5)
        self.read = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by the second layer's weight."""
        return self.called(x).tanh() @ self.read.weight.T + self.read.bias


class BatchNormAct(nn.BatchNorm2d):
    """A batch norm that ends in an activation of its own, as timm has it."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, then rectify in place."""
        return F.relu_(super().forward(x))


class ChannelLayerNorm(nn.LayerNorm):
    """A layer norm over the channels of an image, as torchvision and timm have it."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the channels at every position."""
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class PaddedConv(nn.Conv2d):
    """A convolution that pads by itself, with a scaled output."""

    def forward(self, x: Tensor) -> Tensor:
        """Pad on one side only."""
        return 2.0 * F.conv2d(
            F.pad(x, (1, 0, 0, 2)), self.weight, bias=self.bias, stride=self.stride
        )


class TwoOutputs(nn.Linear):
    """A linear layer that returns more than its output."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Output and input."""
        return super().forward(x), x


class First(nn.Module):
    """The first of a module's outputs."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Leave the others out."""
        output: Tensor = self.inner(x)[0]
        return output


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return self.function(x)


class Attention(nn.Module):
    """Self- and cross-attention between two widths of token rows, and a norm."""

    def __init__(self, kind: Callable[[], nn.Module], mode: str) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.attention = kind()
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, time, 4]``."""
        x = self.norm(x)
        if self.mode == "self":
            parts = (x, x, x)
        elif self.mode == "memory":  # key and value are one tensor, with fewer rows than the query
            parts = (x, (memory := x[:, 1:]), memory)
        else:
            parts = (x, x[:, 1:], x[:, :-1])
        output = self.attention(*parts)
        return output[0] if isinstance(output, tuple) else output


def attention_case(name: str, mode: str, **options: bool) -> Case:
    """A case of ``nn.MultiheadAttention`` beside attention that is written out."""
    return Case(
        name,
        lambda: Attention(lambda: nn.MultiheadAttention(4, 2, batch_first=True, **options), mode),
        (2, 3, 4),
        reference=lambda: Attention(lambda: ExplicitAttention(4, 2, **options), mode),
    )


class MixedTokens(nn.Module):
    """Embedding, attention, RMS and layer norm, and a head."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        self.first_norm = nn.RMSNorm(8)
        self.attention = attention
        self.second_norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[batch, time, 3]``."""
        x = self.embedding(tokens)
        normed = self.first_norm(x)
        mixed = self.attention(normed, normed, normed)
        x = x + (mixed[0] if isinstance(mixed, tuple) else mixed)
        output: Tensor = self.head(self.second_norm(x))
        return output


def mixed_image(*, inplace: bool) -> nn.Module:
    """Most layer kinds of vision models in one; a single output."""
    return nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False),
        nn.GroupNorm(3, 6),
        nn.SiLU(inplace=inplace),
        nn.ConvTranspose2d(6, 4, 2, stride=2, bias=False),
        nn.InstanceNorm2d(4, affine=True),
        nn.ReLU(inplace=inplace),
        nn.Flatten(2),
        nn.Conv1d(4, 5, 3, stride=5, bias=False),
        nn.BatchNorm1d(5),
        nn.AdaptiveAvgPool1d(4),
        nn.Flatten(),
        nn.Linear(20, 1),
    )


IMAGE = (3, 4, 6, 5)
LINE = (3, 4, 7)
VOLUME = (2, 4, 4, 3, 4)

CASES = [
    Case("linear", lambda: nn.Linear(4, 3), (5, 4)),
    Case("linear_no_bias", lambda: nn.Linear(4, 3, bias=False), (5, 4)),
    Case("linear_tokens", lambda: nn.Linear(4, 3), (2, 3, 4)),
    Case("linear_unbatched", lambda: nn.Linear(4, 3), (4,)),
    Case("linear_batch_of_one", lambda: nn.Linear(4, 3), (1, 4)),
    Case("linear_single_output", lambda: nn.Linear(4, 1), (5, 4)),
    Case("linear_subclass", lambda: Subclass(4, 3), (5, 4)),
    Case("linear_keyword", Keyword, (5, 4)),
    Case(
        "mlp_inplace_relu",
        lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 3)),
        (5, 4),
    ),
    Case(
        "tokens_inplace_relu",  # of a linear layer on three axes torch returns a view
        lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 3)),
        (2, 3, 4),
        reference=lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)),
    ),
    Case(
        "conv_unbatched_inplace_relu",
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(inplace=True), nn.Conv2d(6, 3, 3)),
        (4, 6, 5),
        reference=lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Conv2d(6, 3, 3)),
    ),
    Case("conv", lambda: nn.Conv2d(4, 3, 3), IMAGE),
    Case("conv_no_bias", lambda: nn.Conv2d(4, 3, 3, bias=False), IMAGE),
    Case("conv_pointwise", lambda: nn.Conv2d(4, 3, 1), IMAGE),
    Case("conv_stride_padding", lambda: nn.Conv2d(4, 3, 3, stride=2, padding=1), IMAGE),
    Case("conv_stride_above_kernel", lambda: nn.Conv2d(4, 3, 2, stride=3), IMAGE),
    Case(
        "conv_rectangular",
        lambda: nn.Conv2d(4, 3, (3, 2), stride=(2, 1), padding=(0, 2), dilation=(1, 2)),
        IMAGE,
    ),
    Case("conv_dilated", lambda: nn.Conv2d(4, 3, 2, dilation=(3, 2), padding=1), IMAGE),
    Case("conv_same", lambda: nn.Conv2d(4, 3, 3, padding="same"), IMAGE),
    Case("conv_same_even", lambda: nn.Conv2d(4, 3, (2, 4), padding="same"), IMAGE),
    Case(
        "conv_same_dilated_circular",
        lambda: nn.Conv2d(4, 3, 2, padding="same", dilation=3, padding_mode="circular"),
        IMAGE,
    ),
    Case("conv_valid", lambda: nn.Conv2d(4, 3, 2, padding="valid"), IMAGE),
    Case("conv_reflect", lambda: nn.Conv2d(4, 3, 3, padding=2, padding_mode="reflect"), IMAGE),
    Case(
        "conv_replicate",
        lambda: nn.Conv2d(4, 3, 3, padding=(2, 1), padding_mode="replicate"),
        IMAGE,
    ),
    Case(
        "conv_circular",
        lambda: nn.Conv2d(4, 3, 3, stride=2, padding=(1, 2), padding_mode="circular"),
        IMAGE,
    ),
    Case("conv_grouped", lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2), IMAGE),
    Case("conv_depthwise", lambda: nn.Conv2d(4, 8, 3, groups=4, bias=False), IMAGE),
    Case("conv_grouped_dilated", lambda: nn.Conv2d(4, 2, 2, groups=2, dilation=2), IMAGE),
    Case("conv_unbatched", lambda: nn.Conv2d(4, 3, 3, padding=1), (4, 6, 5)),
    Case("conv_batch_of_one", lambda: nn.Conv2d(4, 3, 3), (1, 4, 6, 5)),
    Case(
        "conv_channels_last",
        lambda: nn.Conv2d(4, 3, 3).to(memory_format=torch.channels_last),
        IMAGE,
    ),
    Case("batch_norm_1d", lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)), (6, 4)),
    Case("batch_norm_1d_positions", lambda: nn.BatchNorm1d(4), (3, 4, 5)),
    Case("batch_norm_2d", lambda: nn.BatchNorm2d(4), IMAGE),
    Case("batch_norm_3d", lambda: nn.BatchNorm3d(4), (2, 4, 2, 3, 2)),
    Case("batch_norm_eval", lambda: nn.BatchNorm2d(4).eval(), IMAGE),
    Case("layer_norm", lambda: nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3)), (5, 4)),
    Case("layer_norm_tokens", lambda: nn.LayerNorm(4), (2, 3, 4)),
    Case("layer_norm_two_axes", lambda: nn.LayerNorm((3, 4)), (5, 3, 4)),
    Case("layer_norm_no_bias", lambda: nn.LayerNorm(4, bias=False), (5, 4)),
    Case("layer_norm_unbatched", lambda: nn.LayerNorm(4), (4,)),
    Case("conv1d", lambda: nn.Conv1d(4, 3, 3, padding=1, stride=2), LINE),
    Case("conv1d_grouped", lambda: nn.Conv1d(4, 4, 2, dilation=2, groups=2, bias=False), LINE),
    Case(
        "conv1d_unbatched", lambda: nn.Conv1d(4, 3, 3, padding_mode="circular", padding=1), (4, 7)
    ),
    Case("conv3d", lambda: nn.Conv3d(4, 3, 2, padding=(1, 0, 1), stride=(2, 1, 1)), VOLUME),
    Case("conv3d_depthwise", lambda: nn.Conv3d(4, 4, 2, groups=4), VOLUME),
    Case("conv_single_output", lambda: nn.Conv2d(4, 1, 3), IMAGE),
    Case("conv_transpose", lambda: nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1), IMAGE),
    Case(
        "conv_transpose_output_padding",
        lambda: nn.ConvTranspose2d(4, 3, (3, 2), stride=(2, 3), output_padding=1, bias=False),
        IMAGE,
    ),
    Case(
        "conv_transpose_grouped_dilated",
        lambda: nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2, dilation=(2, 1), padding=1),
        IMAGE,
    ),
    Case("conv_transpose_1d", lambda: nn.ConvTranspose1d(4, 3, 3, stride=2), LINE),
    Case("conv_transpose_1d_unbatched", lambda: nn.ConvTranspose1d(4, 3, 4, stride=2), (4, 7)),
    Case("conv_transpose_3d", lambda: nn.ConvTranspose3d(4, 2, 2, stride=2), (1, 4, 2, 2, 3)),
    Case("group_norm", lambda: nn.GroupNorm(2, 4), IMAGE),
    Case("group_norm_rows", lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.Linear(4, 3)), (5, 4)),
    Case("instance_norm_1d", lambda: nn.InstanceNorm1d(4, affine=True), LINE),
    Case("instance_norm_2d", lambda: nn.InstanceNorm2d(4, affine=True), IMAGE),
    Case("instance_norm_3d", lambda: nn.InstanceNorm3d(4, affine=True), VOLUME),
    Case("instance_norm_unbatched", lambda: nn.InstanceNorm2d(4, affine=True), (4, 6, 5)),
    Case("rms_norm", lambda: nn.Sequential(nn.RMSNorm(4), nn.Linear(4, 3)), (2, 3, 4)),
    Case("rms_norm_two_axes", lambda: nn.RMSNorm((3, 4)), (5, 3, 4)),
    Case(
        "embedding",
        lambda: nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 3)),
        (3, 5),
        tokens=7,
        embeddings=True,
    ),
    Case(
        "embedding_padding",
        lambda: nn.Sequential(nn.Embedding(7, 4, padding_idx=2), nn.LayerNorm(4)),
        (3, 5),
        tokens=7,
        embeddings=True,
    ),
    Case("embedding_tied", TokenModel, (3, 5), tokens=7, covered=False, embeddings=True),
    attention_case("attention_self", "self"),
    attention_case("attention_no_bias", "self", bias=False),
    attention_case("attention_memory", "memory"),
    attention_case("attention_three_inputs", "three"),
    Case(
        "subclass_batch_norm_with_activation",
        lambda: nn.Sequential(BatchNormAct(4), nn.Conv2d(4, 3, 2)),
        IMAGE,
        reference=lambda: nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 2)),
    ),
    Case(
        "subclass_layer_norm_over_channels",
        lambda: ChannelLayerNorm(4),
        (3, 4, 5, 4),
        reference=lambda: nn.Sequential(
            Function(lambda x: x.movedim(1, -1)),
            nn.LayerNorm(4),
            Function(lambda x: x.movedim(-1, 1)),
        ),
    ),
    Case(
        "subclass_conv_that_pads",
        lambda: PaddedConv(4, 3, 3, stride=2),
        IMAGE,
        reference=lambda: nn.Sequential(
            nn.ZeroPad2d((1, 0, 0, 2)), nn.Conv2d(4, 3, 3, stride=2), Function(lambda x: 2.0 * x)
        ),
    ),
    Case(
        "subclass_two_outputs",
        lambda: First(TwoOutputs(4, 3)),
        (5, 4),
        reference=lambda: nn.Linear(4, 3),
    ),
    Case("tied_linear", TwoHeads, (5, 4)),
    Case("tied_convolutions", TiedConvolutions, IMAGE),
    Case("several_calls", Recurrent, (6, 4)),
    Case("input_overwritten", InputOverwritten, (5, 4)),
    Case("weight_multiplied_by_hand", MultipliedByHand, (5, 4)),
    Case("tokens_tied_head", TokenModel, (3, 5), tokens=7, covered=False),
    Case(
        "cnn_inplace",
        lambda: nn.Sequential(
            nn.Conv2d(4, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.Conv2d(6, 6, 3, stride=2, groups=3),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Flatten(),
            nn.Linear(24, 3),
        ),
        IMAGE,
    ),
    Case(
        "mixed_image",
        lambda: mixed_image(inplace=True),
        IMAGE,
        reference=lambda: mixed_image(inplace=False),
    ),
    Case(
        "mixed_tokens",
        lambda: MixedTokens(nn.MultiheadAttention(8, 2, batch_first=True)),
        (2, 5),
        tokens=7,
        embeddings=True,
        reference=lambda: MixedTokens(ExplicitAttention(8, 2)),
    ),
]
BY_ID = {case.id: case for case in CASES}
