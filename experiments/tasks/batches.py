"""Batches of any structure: a tensor, or a tuple, list or mapping of such, with common rows.

Named tuples and the mappings of libraries, as outputs of transformers, keep their class.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor


def mapped(function: Callable[[Tensor], Tensor], batch: Any) -> Any:
    """Apply a function to every tensor of a batch; whatever else it holds stays as it is.

    Example:
        >>> import torch
        >>> mapped(len, {"views": (torch.ones(2), torch.ones(3)), "name": "a"})
        {'views': (2, 3), 'name': 'a'}
    """
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, Mapping):
        return _like(batch, {key: mapped(function, part) for key, part in batch.items()})
    if isinstance(batch, tuple | list):
        parts = [mapped(function, part) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch


def _like(batch: Mapping[Any, Any], parts: dict[Any, Any]) -> Mapping[Any, Any]:
    """Make a mapping of the class of another where keywords make it; else a dictionary."""
    make: Callable[..., Mapping[Any, Any]] = type(batch)
    try:
        made = make(**parts)
    except Exception:  # what the constructor of a library makes of other keywords
        return parts
    return made if list(made) == list(parts) else parts


def rows(batch: Any) -> int:
    """Count the rows of a batch, those of its first tensor; 0 without one.

    Example:
        >>> import torch
        >>> rows([{"image": torch.ones(4, 2)}, torch.ones(4)])
        4
    """
    return next((len(part) for part in leaves(batch) if isinstance(part, Tensor)), 0)


def leaves(batch: Any) -> Iterator[Any]:
    """Yield the tensors of a batch, and whatever else it holds.

    Example:
        >>> list(leaves({"length": 3, "words": ["a", ("b", None)]}))
        [3, 'a', 'b', None]
    """
    if isinstance(batch, Mapping | tuple | list):
        for part in batch.values() if isinstance(batch, Mapping) else batch:
            yield from leaves(part)
    else:
        yield batch
