import pytest
import torch

from experiments.optimizers import symmetric
from experiments.optimizers.symmetric import gram, pack, packed_gram, packed_size, unpack


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 9])
def test_packing_is_one_triangle_and_comes_back_bit_by_bit(size):
    torch.manual_seed(0)
    half = torch.randn(3, size, size)
    matrices = half + half.mT
    packed = pack(matrices)
    assert packed.shape == (3, packed_size(size)) == (3, size * (size + 1) // 2)
    assert torch.equal(unpack(packed, size), matrices)
    # Every number of the triangle once: the packed form is a reordering of it.
    triangle = matrices[0][torch.ones(size, size).tril().bool()]
    assert torch.equal(packed[0].sort().values, triangle.sort().values)


@pytest.mark.parametrize("size", [1, 5, 8, 11, 33])
def test_gram_by_blocks_is_the_product(size, monkeypatch):
    monkeypatch.setattr(symmetric, "SMALLEST_SPLIT", 4)
    torch.manual_seed(0)
    rows = torch.randn(2, size + 1, size, dtype=torch.float64)
    expected = torch.einsum("nri,nrj->nij", rows, rows)
    torch.testing.assert_close(gram(rows), expected)
    torch.testing.assert_close(packed_gram(rows), pack(expected))


def test_packing_is_linear():
    torch.manual_seed(0)
    first, second = (gram(torch.randn(1, 4, 6)) for _ in range(2))
    assert torch.equal(pack(first) + pack(second), pack(first + second))
