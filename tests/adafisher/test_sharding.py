"""The slice of a curvature term is the term of the slice."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.tensor import Replicate, Shard

from adafisher.execution.sharding import shard_terms


@dataclass
class Sharded:
    """What ``shard_terms`` reads of a ``DTensor``."""

    shape: torch.Size
    placements: tuple[Any, ...]
    device_mesh: Any

    def dim(self) -> int:
        return len(self.shape)


def sharded(shape: tuple[int, ...], axis: int, rank: int, ranks: int) -> Any:
    mesh = SimpleNamespace(size=lambda _: ranks, get_local_rank=lambda _: rank)
    return Sharded(torch.Size(shape), (Replicate(), Shard(axis)), mesh)


# Parameter, then the two shapes; the last three are grouped views, the last as transposed.
LAYOUTS = {
    "affine": ((7, 5, 2), (7, 1, 1), (1, 5, 2)),
    "vector": ((7,), (7,), (1,)),
    "one_row": ((1, 5), (1, 1), (1, 5)),
    "grouped": ((6, 5, 2), (2, 3, 1, 1), (2, 1, 5, 2)),
    "depthwise": ((6, 1, 2), (6, 1, 1, 1), (6, 1, 1, 2)),
    "grouped_bias": ((6,), (2, 3), (2, 1)),
    "transposed": ((6, 5, 2), (2, 1, 5, 1), (2, 3, 1, 2)),
}


AXES = [(name, axis) for name, (shape, *_) in LAYOUTS.items() for axis in range(len(shape))]


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 8])
@pytest.mark.parametrize(("layout", "axis"), AXES)
def test_slice_of_the_product_is_the_product_of_the_slices(
    layout: str, ranks: int, axis: int
) -> None:
    shape, *terms = LAYOUTS[layout]
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.rand(t, generator=generator) for t in terms)
    chunks = (left * right).reshape(shape).chunk(ranks, axis)
    for rank, chunk in enumerate(chunks):
        ((a, b),) = shard_terms([(left, right)], sharded(shape, axis, rank, ranks))
        product: Tensor = a * b
        if product.dim() > len(shape):
            product = product.flatten(0, 1)
        assert torch.equal(product, chunk)
    for rank in range(len(chunks), ranks):  # torch.chunk may give fewer: these ranks have nothing
        assert len(shard_terms([(left, right)], sharded(shape, axis, rank, ranks))) == 1


def test_a_plain_parameter_keeps_its_terms() -> None:
    terms = [(torch.rand(3, 1), torch.rand(1, 2))]
    assert shard_terms(terms, torch.rand(3, 2)) is terms
