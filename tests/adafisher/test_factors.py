"""The folded convolution factor against explicit patches, over random geometries."""

import threading
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from adafisher import squares
from adafisher.factors import (
    conv_activation_sum,
    conv_transpose_activation_sum,
)
from adafisher.squares import reduced_square_sum, square_sum
from tests.support.reference import conv_patches, transposed_patches

MODES = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "replicate",
    "circular": "circular",
}


@st.composite
def geometries(draw: st.DrawFn) -> dict[str, Any]:
    def pair(low: int, high: int) -> tuple[int, int]:
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    return {
        "kernel_size": pair(1, 4),
        "stride": pair(1, 3),
        "dilation": pair(1, 3),
        "padding": (pair(0, 2), pair(0, 2)),
        "groups": draw(st.sampled_from([1, 2, 4])),
        "padding_mode": draw(st.sampled_from(sorted(MODES))),
        "bias": draw(st.booleans()),
    }


@settings(max_examples=80, deadline=None, derandomize=True)
@given(geometry=geometries(), size=st.tuples(st.integers(3, 8), st.integers(3, 8)))
def test_folded_conv_factor_is_the_sum_over_patches(
    geometry: dict[str, Any], size: tuple[int, int]
) -> None:
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    (top, bottom), (left, right) = geometry["padding"]
    padded = F.pad(x, (left, right, top, bottom), mode=MODES[geometry["padding_mode"]])
    extents = [
        d * (k - 1) + 1 for d, k in zip(geometry["dilation"], geometry["kernel_size"], strict=True)
    ]
    assume(all(p >= e for p, e in zip(padded.shape[2:], extents, strict=True)))
    patches = F.unfold(
        padded, geometry["kernel_size"], geometry["dilation"], 0, geometry["stride"]
    )  # [batch, channels * kernel, positions]
    groups = geometry["groups"]
    expected = patches.square().sum((0, 2)).reshape(groups, -1)
    if geometry["bias"]:
        rows = float(patches.shape[0] * patches.shape[2])
        expected = torch.cat([expected, torch.full((groups, 1), rows, dtype=x.dtype)], 1)
    output_size = [
        (p - e) // s + 1
        for p, e, s in zip(padded.shape[2:], extents, geometry["stride"], strict=True)
    ]
    ours = conv_activation_sum(x, output_size, **geometry)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def augmented_square_sum(patches: Tensor, *, bias: bool) -> Tensor:
    """Sum over the rows of ``[rows, groups, d_in]``."""
    if bias:
        patches = torch.cat([patches, torch.ones_like(patches[..., :1])], -1)
    return patches.square().sum(0)


@st.composite
def small_layers(draw: st.DrawFn) -> tuple[Any, Tensor]:
    """A (transposed) convolution over one to three axes, and an input that fits it."""
    axes = draw(st.integers(1, 3))
    transposed = draw(st.booleans())

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(axes))

    kernel, stride, dilation, padding = each(1, 3), each(1, 3), each(1, 2), each(0, 2)
    groups = draw(st.sampled_from([1, 2]))
    kind: Any = getattr(nn, f"Conv{'Transpose' * transposed}{axes}d")
    options: dict[str, Any] = {"bias": draw(st.booleans()), "groups": groups, "dilation": dilation}
    if transposed:
        options["output_padding"] = tuple(
            draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
        )
    layer = kind(2 * groups, groups, kernel, stride, padding, **options).double()
    x = torch.randn(2, 2 * groups, *each(1, 4), dtype=torch.float64)
    try:
        layer(x)
    except RuntimeError:  # the output would be empty
        assume(False)
    return layer, x


@settings(max_examples=80, deadline=None, derandomize=True)
@given(case=small_layers())
def test_layers_of_any_number_of_axes_against_patches_cut_out_one_by_one(
    case: tuple[Any, Tensor],
) -> None:
    layer, x = case
    output_size = list(layer(x).shape[2:])
    geometry = {
        "kernel_size": layer.kernel_size,
        "stride": layer.stride,
        "dilation": layer.dilation,
        "groups": layer.groups,
        "bias": layer.bias is not None,
    }
    if layer.transposed:
        patches = transposed_patches(layer, x, output_size)
        ours = conv_transpose_activation_sum(x, output_size, padding=layer.padding, **geometry)
        # The patches are those of the layer only if they give its output.
        weight = layer.weight.unflatten(0, (layer.groups, -1)).movedim(2, 1).flatten(2)
    else:
        patches = conv_patches(layer, x)
        sides = [(side, side) for side in layer.padding]
        ours = conv_activation_sum(x, output_size, padding=sides, padding_mode="zeros", **geometry)
        weight = layer.weight.unflatten(0, (layer.groups, -1)).flatten(2)
    output = torch.einsum("rgi,goi->rgo", patches, weight).flatten(1)
    if layer.bias is not None:
        output = output + layer.bias
    torch.testing.assert_close(output, layer(x).movedim(1, -1).reshape(output.shape))
    expected = augmented_square_sum(patches, bias=layer.bias is not None)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_one_and_three_spatial_axes() -> None:
    for axes in (1, 3):
        x = torch.randn(2, 3, *[5] * axes, dtype=torch.float64)
        patches = x
        for axis in range(2, 2 + axes):
            patches = patches.unfold(axis, 2, 2)
        sums = patches.square().sum((0, *range(2, 2 + axes))).reshape(1, -1)
        ours = conv_activation_sum(
            x,
            [2] * axes,
            kernel_size=[2] * axes,
            stride=[2] * axes,
            padding=[(0, 0)] * axes,
            dilation=[1] * axes,
            groups=1,
            padding_mode="zeros",
            bias=False,
        )
        torch.testing.assert_close(ours, sums)


def test_half_precision_is_squared_in_float32() -> None:
    x: Tensor = torch.full((4, 2), 300.0, dtype=torch.float16)
    sums = square_sum(x, [0])
    assert sums.dtype is torch.float32
    assert torch.equal(sums, torch.full((2,), 360000.0))


@pytest.mark.parametrize(("chunk", "few"), [(1, 1), (7, 99), (24, 1), (50, 99), (1 << 18, 1)])
@pytest.mark.parametrize("dims", [[0], range(2), [0, 2], [0, 1, 3], [0, 2, 3]])
@pytest.mark.parametrize("shape", [(5, 2, 3, 4), (1, 2, 3, 4), (0, 2, 3, 4)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_square_sums_without_squares(
    monkeypatch: pytest.MonkeyPatch,
    chunk: int,
    few: int,
    dims: list[int],
    shape: tuple[int, ...],
    layout: torch.memory_format,
) -> None:
    monkeypatch.setattr(squares, "_FOLD_ELEMENTS", chunk)
    monkeypatch.setattr(squares, "_FEW_POSITIONS", few)
    monkeypatch.setattr(squares, "_of_thread", threading.local())
    x = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=layout)
    expected = (x * x).sum(tuple(dims))
    for way in (square_sum, reduced_square_sum):
        torch.testing.assert_close(way(x, dims), expected, rtol=1e-13, atol=1e-13)
        half = x.bfloat16()
        assert way(half, dims).dtype is torch.float32
        sums = half.float().square().sum(tuple(dims))
        torch.testing.assert_close(way(half, dims), sums, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(6, 5, 8)[:, ::2],
        torch.randn(6, 5, 1).expand(6, 5, 8),
        torch.randn(6, 8).expand(5, 6, 8),
        torch.randn(8, 6, 5).permute(1, 2, 0),
        torch.randn(5, 8, 6).permute(2, 0, 1),
    ],
    ids=["gaps", "repeated entries", "repeated rows", "rows last", "rows within"],
)
@pytest.mark.parametrize("dims", [[0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]])
def test_square_sums_wherever_the_entries_lie(x: Tensor, dims: list[int]) -> None:
    expected = x.double().square().sum(dims)
    torch.testing.assert_close(square_sum(x, dims).double(), expected, rtol=1e-6, atol=1e-6)


def test_square_sums_of_threads_do_not_meet() -> None:
    # In float64, which no library takes, so that they are folded in the memory of a thread.
    xs = [torch.full((64, 64), float(i), dtype=torch.float64) for i in range(8)]
    found: dict[int, set[float]] = {}

    def fold(i: int) -> None:
        found[i] = {float(v) for _ in range(200) for v in square_sum(xs[i], [0]).unique()}

    threads = [threading.Thread(target=fold, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {i: {64.0 * i * i} for i in range(8)}


@pytest.mark.parametrize("transposed", [False, True])
def test_a_convolution_s_factor_keeps_its_precision_under_autocast(transposed: bool) -> None:
    x = torch.randn(4, 6, 9, 9, generator=torch.Generator().manual_seed(0))
    geometry: Any = {"kernel_size": [3, 3], "stride": [2, 2], "dilation": [1, 1], "groups": 1}
    if transposed:
        geometry |= {"padding": [1, 1], "bias": True}
        found = [conv_transpose_activation_sum(t, [17, 17], **geometry) for t in (x, x.double())]
    else:
        geometry |= {"padding": [(1, 1)] * 2, "padding_mode": "zeros", "bias": True}
        found = [conv_activation_sum(t, [5, 5], **geometry) for t in (x, x.double())]
    with torch.autocast("cpu", torch.bfloat16):
        if transposed:
            under = conv_transpose_activation_sum(x, [17, 17], **geometry)
        else:
            under = conv_activation_sum(x, [5, 5], **geometry)
    torch.testing.assert_close(found[0].double(), found[1], rtol=1e-6, atol=0.0)
    assert torch.equal(under, found[0])
