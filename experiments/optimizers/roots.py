"""Inverse roots of symmetric matrices, and their products with the axes of a tensor.

Matrices are ``[d, d]``; an eigenproblem runs on a stack ``[n, d, d]`` of one size.
"""

import torch
from torch import Tensor

from experiments.optimizers.symmetric import gram


def inverse_root(statistics: Tensor, order: int, ridge: float) -> Tensor:
    r"""Inverse roots of symmetric positive semi-definite matrices.

    .. math::
        (L + \varepsilon \lambda_{\max}(L) I)^{-1/p}

    Args:
        statistics: Stack of matrices L, ``[n, d, d]``.
        order: Order of the root; p.
        ridge: Share of the largest eigenvalue that is added to all; epsilon.

    Returns:
        The roots, ``[n, d, d]``.

    Raises:
        torch.linalg.LinAlgError: If the eigendecomposition does not converge.
    """
    eigenvalues, eigenvectors = torch.linalg.eigh(statistics)
    # Eigenvalues that are zero come out as rounding noise of either sign. Its magnitude bounds the
    # gain along such a direction; clamped at zero it would be the full (ridge)^(-1/p).
    eigenvalues = eigenvalues.abs()
    eigenvalues = eigenvalues + ridge * eigenvalues.amax(-1, keepdim=True)
    # The square root of the root, as a product with its own transpose costs less.
    return gram((eigenvectors * eigenvalues.pow(-0.5 / order).unsqueeze(-2)).mT)


def robust_roots(statistics: list[Tensor], order: int, ridge: float) -> list[Tensor | None]:
    """Inverse roots of matrices of one size, in one call where that works.

    A stack that does not converge in its own precision is tried in float64, then matrix by matrix.

    Args:
        statistics: Matrices, ``[d, d]`` each.
        order: Order of the root.
        ridge: Ridge relative to the largest eigenvalue.

    Returns:
        For every matrix its root, ``[d, d]``, or ``None`` where no finite root was found.
    """
    stack = torch.stack(statistics)
    for dtype in (stack.dtype, torch.float64):
        try:
            roots = inverse_root(stack.to(dtype), order, ridge).to(stack.dtype)
        except torch.linalg.LinAlgError:
            continue
        # A root is positive definite: its diagonal bounds it.
        if bool(roots.diagonal(dim1=-2, dim2=-1).isfinite().all()):
            return list(roots.unbind())
    if len(statistics) == 1:
        return [None]
    return [root for one in statistics for root in robust_roots([one], order, ridge)]


def precondition(grads: Tensor, roots: list[Tensor]) -> Tensor:
    """Multiplies every axis of gradients by its root: the mode products ``G x_1 R_1 ... x_k R_k``.

    Args:
        grads: Gradients of one shape, ``[n, d_1, ..., d_k]``.
        roots: Symmetric matrices for each axis, ``[n, d_i, d_i]``.

    Returns:
        The preconditioned gradients, ``[n, d_1, ..., d_k]``.
    """
    shape = grads.shape
    for root in roots:
        # Contracting the first axis puts the new one last: after k axes the order is the old one.
        grads = grads.reshape(shape[0], root.shape[-1], -1).mT @ root
    return grads.reshape(shape)
