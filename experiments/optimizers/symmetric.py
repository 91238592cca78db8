"""Symmetric matrices at half their memory, and sums of outer products at less than full cost.

Matrices are stacks ``[n, d, d]``, in packed form ``[n, d (d + 1) / 2]``.
"""

from functools import lru_cache

import torch
from torch import Tensor

# Bounds stacks that are worked on at once, by their numbers: on a CPU what stays in its cache,
# elsewhere 64 MiB in float32.
CACHED_STACK, LARGEST_STACK = 2**18, 2**24
# Below this size, and with fewer rows than columns, one product is faster than the blocks of its
# lower triangle.
SMALLEST_SPLIT = 256
# Masks of up to this size are kept: 64 KiB each.
LARGEST_KEPT = 256


def stack_length(size: int, device: torch.device) -> int:
    """Choose how many tensors of ``size`` numbers to stack, 1 at least."""
    return max(1, (CACHED_STACK if device.type == "cpu" else LARGEST_STACK) // size)


def packed_size(size: int) -> int:
    """Numbers in one triangle of a matrix ``[size, size]``, with the diagonal."""
    return size * (size + 1) // 2


def pack(matrices: Tensor) -> Tensor:
    r"""One triangle of each matrix, as two rectangles: no index arithmetic on the way back.

    With the blocks of the lower triangle split at ``h = d // 2`` and ``m = d - h``,

    .. math::
        \begin{pmatrix} A & \\ B & C \end{pmatrix} \to B \;[m, h], \quad
        T \;[h + 1, m], \quad T_{i+1,j} = A_{ij} \;(j \le i), \quad T_{ij} = C_{ij} \;(j \ge i)

    Args:
        matrices: Symmetric matrices, ``[n, d, d]``.

    Returns:
        ``[n, d (d + 1) / 2]``; B, then T.

    Reference:
        Gustavson et al., 2010, ACM TOMS 37(2): the rectangular full packed format.
    """
    size = matrices.shape[-1]
    half = size // 2
    packed = matrices.new_empty(len(matrices), packed_size(size))
    corner, _ = _blocks(packed, size)
    corner.copy_(matrices[:, half:, :half])
    _put_triangles(packed, matrices[:, :half, :half], matrices[:, half:, half:])
    return packed


def unpack(packed: Tensor, size: int) -> Tensor:
    """Unpack the matrices that ``pack`` packed.

    Args:
        packed: ``[n, d (d + 1) / 2]``.
        size: Rows of a matrix; d.

    Returns:
        Symmetric matrices, ``[n, d, d]``.
    """
    half, low = size // 2, size - size // 2
    corner, rest = _blocks(packed, size)
    matrices = packed.new_empty(len(packed), size, size)
    matrices[:, half:, :half] = corner
    matrices[:, :half, half:] = corner.mT
    is_upper = _upper_triangle(low, packed.device)
    upper, lower = rest[:, :low], rest[:, 1:, :half]
    torch.where(is_upper, upper, upper.mT, out=matrices[:, half:, half:])
    torch.where(is_upper[:half, :half], lower.mT, lower, out=matrices[:, :half, :half])
    return matrices


def packed_gram(rows: Tensor) -> Tensor:
    r"""Sum of the outer products of rows, :math:`X^T X`, packed: without the upper right block.

    Args:
        rows: X, ``[n, rows, d]``.

    Returns:
        ``[n, d (d + 1) / 2]``.
    """
    size = rows.shape[-1]
    if size < SMALLEST_SPLIT:
        return pack(rows.mT @ rows)
    packed = rows.new_empty(len(rows), packed_size(size))
    left, right = rows[..., : size // 2], rows[..., size // 2 :]
    corner, _ = _blocks(packed, size)
    torch.bmm(right.mT, left, out=corner)
    _put_triangles(packed, left.mT @ left, right.mT @ right)
    return packed


def gram(rows: Tensor) -> Tensor:
    r"""Sum of the outer products of rows, :math:`X^T X`.

    Large ones of many rows are computed by blocks of the lower triangle, which saves up to half of
    the work.

    Args:
        rows: X, ``[n, rows, d]``.

    Returns:
        ``[n, d, d]``.
    """
    size = rows.shape[-1]
    if size < SMALLEST_SPLIT or rows.shape[1] < size:
        return rows.mT @ rows
    block = -(-size // (4 if size >= 2 * SMALLEST_SPLIT else 2))
    result = rows.new_empty(len(rows), size, size)
    for start in range(0, size, block):
        stop = min(start + block, size)
        result[:, start:, start:stop] = rows[:, :, start:].mT @ rows[:, :, start:stop]
        result[:, start:stop, stop:] = result[:, stop:, start:stop].mT
    return result


def _blocks(packed: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return views of B, ``[n, m, h]``, and T, ``[n, h + 1, m]``."""
    half, low = size // 2, size - size // 2
    corner = packed[:, : low * half].unflatten(1, (low, half))
    return corner, packed[:, low * half :].unflatten(1, (half + 1, low))


def _put_triangles(packed: Tensor, first: Tensor, second: Tensor) -> None:
    """Write A, ``[n, h, h]``, and C, ``[n, m, m]``, into T."""
    half, low = first.shape[-1], second.shape[-1]
    _, rest = _blocks(packed, half + low)
    # The first row has nothing of A; if m = h the last has nothing of C, else the last column.
    rest[:, 0] = second[:, 0]
    is_upper = _upper_triangle(low, packed.device)[1:, :half]
    torch.where(is_upper, second[:, 1:, :half], first[:, : low - 1], out=rest[:, 1:low, :half])
    if low == half:
        rest[:, half] = first[:, half - 1]
    else:
        rest[:, 1:, half] = second[:, 1:, half]


def _upper_triangle(size: int, device: torch.device) -> Tensor:
    """Return a mask, true on and above the diagonal, ``[size, size]``."""
    return _kept_triangle(size, device) if size <= LARGEST_KEPT else _new_triangle(size, device)


def _new_triangle(size: int, device: torch.device) -> Tensor:
    return torch.ones(size, size, dtype=torch.bool, device=device).triu()


_kept_triangle = lru_cache(maxsize=32)(_new_triangle)
