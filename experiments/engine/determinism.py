"""Strict mode: operations that give the same bits again, or an error that names one that cannot."""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

import torch

from experiments.errors import UserError

# cuBLAS takes a fixed workspace only under one of two settings; this is the faster one.
CUBLAS_VARIABLE = "CUBLAS_WORKSPACE_CONFIG"
CUBLAS_WORKSPACE = ":4096:8"
_REFUSAL = re.compile(r"(\S+) does not have a deterministic implementation")
_CUBLAS_REFUSAL = "this operation is not deterministic because it uses CuBLAS"


@contextlib.contextmanager
def strict(wanted: bool) -> Iterator[None]:
    """Hold torch in its strict mode for as long as the context lasts, and restore it.

    Args:
        wanted: False changes nothing.

    Raises:
        UserError: If it is no switch.
    """
    if not isinstance(wanted, bool):
        raise UserError(f"Invalid deterministic: {wanted!r}. Must be one of: true, false.")
    if not wanted:
        yield
        return
    mode = torch.get_deterministic_debug_mode()
    cudnn = torch.backends.cudnn
    flags, workspace = (cudnn.deterministic, cudnn.benchmark), os.environ.get(CUBLAS_VARIABLE)
    # cuBLAS reads it when it is first used.
    os.environ.setdefault(CUBLAS_VARIABLE, CUBLAS_WORKSPACE)
    cudnn.deterministic, cudnn.benchmark = True, False
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        cudnn.deterministic, cudnn.benchmark = flags
        if workspace is None:
            os.environ.pop(CUBLAS_VARIABLE, None)


def facts() -> dict[str, Any]:
    """Say what the mode is now, for the record."""
    return {
        "strict": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cublas_workspace": os.environ.get(CUBLAS_VARIABLE),
    }


def refused_operation(error: BaseException) -> str | None:
    """Name the operation that strict mode refused with ``error``; None if it is another error.

    Example:
        >>> refused_operation(
        ...     RuntimeError("put_ does not have a deterministic implementation, but")
        ... )
        'put_'
    """
    if found := _REFUSAL.search(str(error)):
        return found[1].strip("'\"`")
    return "a cuBLAS call" if _CUBLAS_REFUSAL in str(error) else None
