"""Weights that are read outside of the calls of their layers, such as by ``F.linear(x, e.weight)``.

Where a parent's forward pass names the weight of a layer (attention that adds a bias of its own),
its functional calls are watched instead of the layer (``calls``); ``readers`` finds it in the
bytecode, so that no library is imported, nor known by name.

All other reads give the gradient a part that no rows belong to. No hook sees such a read, but the
graph of the model's output does: each read is an edge to the weight's ``AccumulateGrad``. One
forward pass of the whole model is looked at, and its edges are compared with the calls that were
watched in it (``read_elsewhere``).
"""

from __future__ import annotations

import dis
import inspect
from collections import Counter
from collections.abc import Iterable, Iterator
from types import CodeType
from typing import Any

from torch import Tensor, nn

# Its encoder layer names all of its weights, but for a path of inference alone.
_CALLS_ITS_LAYERS = "torch.nn.modules.transformer"


def readers(model: nn.Module) -> dict[tuple[nn.Module, str], nn.Module]:
    """Modules whose forward pass names a parameter of a module within them.

    That it reads it whenever it is called is not said: it may call the layer as well.

    Args:
        model: Any model.

    Returns:
        The innermost such module, by the module that has the parameter, and its attribute there.
    """
    found: dict[tuple[nn.Module, str], nn.Module] = {}
    attributes = {kind: _attributes(kind) for kind in set(map(type, model.modules()))}
    for reader in model.modules():  # the outer ones first
        for *path, name in attributes[type(reader)]:
            holder: Any = reader
            for part in path:
                holder = holder._modules.get(part) if isinstance(holder, nn.Module) else None
            if path and isinstance(holder, nn.Module) and name in holder._parameters:
                found[holder, name] = reader
    return found


def _attributes(kind: type[nn.Module]) -> set[tuple[str, ...]]:
    """Chains such as ``qkv.weight`` in a forward pass and in the methods that it names."""
    chains: set[tuple[str, ...]] = set()
    names, known = ["forward"], {"forward", *dir(nn.Module)}
    while names:
        name = names.pop()
        found = {
            chain
            for base in kind.__mro__  # all that have it, as one may call another
            if base.__module__ != _CALLS_ITS_LAYERS
            for chain in _chains(_code(vars(base).get(name)))
        }
        new = {chain[0] for chain in found} - known
        chains |= found
        names += new
        known |= new
    return chains


def _code(method: Any) -> CodeType | None:
    """The code of a function, method or property; None of anything else."""
    method = method.fget if isinstance(method, property) else method
    method = method.__func__ if isinstance(method, staticmethod | classmethod) else method
    return inspect.unwrap(method).__code__ if inspect.isfunction(method) else None


def _chains(code: CodeType | None) -> Iterator[tuple[str, ...]]:
    """Attributes that are loaded one from the other."""
    if code is None:
        return
    chain: list[str] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            chain.append(instruction.argval)
        elif chain and instruction.opname != "EXTENDED_ARG":  # a part of the next one
            yield tuple(chain)
            chain = []
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _chains(constant)


def read_elsewhere(output: Any, watched: Counter[Tensor], *, embeddings: bool) -> list[Tensor]:
    """Watched weights with more edges in a graph than watched calls.

    Args:
        output: What the model returned.
        watched: How many calls were watched, by weight.
        embeddings: Whether looking a token up is a read that counts.

    Returns:
        The weights, in the order in which they were watched.
    """
    edges: Counter[Tensor] = Counter()
    nodes = [tensor.grad_fn for tensor in _tensors(output)]
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        if node is None or (not embeddings and node.name().startswith("Embedding")):
            continue
        for following, _ in node.next_functions:
            leaf: Tensor | None = getattr(following, "variable", None)
            if leaf is not None:
                edges[leaf] += 1
            elif following not in seen:
                seen.add(following)
                nodes.append(following)
    return [weight for weight, calls in watched.items() if edges[weight] > calls]


def _tensors(output: Any) -> Iterator[Tensor]:
    """Tensors in nested containers, dataclasses included."""
    if isinstance(output, Tensor):
        yield output
        return
    parts: Iterable[Any] = ()
    if isinstance(output, dict):
        parts = output.values()
    elif isinstance(output, list | tuple):
        parts = output
    elif hasattr(output, "__dataclass_fields__"):
        parts = vars(output).values()
    for part in parts:
        yield from _tensors(part)
