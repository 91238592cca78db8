"""The layers of a model that have curvature, and which module reads the weight of each.

Mostly that is the layer itself, when it is called. Where a parent's forward pass names the weight
(attention that adds a bias of its own), its functional calls are watched instead (``calls``). The
bytecode shows it, so that no library is imported, nor known by name.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Iterator
from types import CodeType
from typing import Any

from torch import nn

from adafisher.capture.calls import overrides_forward
from adafisher.layers.layer import Layer
from adafisher.layers.registry import find_rule

# Its encoder layer names all of its weights, but for a path of inference alone.
_CALLS_ITS_LAYERS = "torch.nn.modules.transformer"


def find_layers(
    model: nn.Module, known: set[nn.Module], norm_layers: str, embeddings: bool
) -> Iterator[tuple[Layer, nn.Module | None]]:
    """Find the supported layers of a model.

    Args:
        model: Any model.
        known: Modules to leave out.
        norm_layers: Form of the norm-layer factors, see ``registry.find_rule``.
        embeddings: Whether embeddings have factors.

    Yields:
        Each layer, and the module within whose forward pass its weight is read by functional
        calls; None where the layer is called with what its weight sees.
    """
    read_by = readers(model)
    for name, module in model.named_modules():
        found = find_rule(module, norm_layers, embeddings)
        if found is None or module in known or _has_separate_projections(module):
            continue
        layer = Layer(name, module, found.rule)
        if not layer.roles():
            continue
        reader = None
        # A registered form is that of a call; other reads of an embedding are no looking up.
        if not (found.registered or isinstance(module, nn.Embedding | nn.EmbeddingBag)):
            reader = read_by.get((module, found.rule.weight))
        if reader is None and (
            isinstance(module, nn.MultiheadAttention | nn.EmbeddingBag)
            or (not found.registered and overrides_forward(module, found.base))
        ):
            reader = module
        yield layer, reader


def readers(model: nn.Module) -> dict[tuple[nn.Module, str], nn.Module]:
    """Find modules whose forward pass names a parameter of a module within them.

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
    """Collect chains such as ``qkv.weight`` in a forward pass and in the methods that it names."""
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
    """Give the code of a function, method or property; None of anything else."""
    method = method.fget if isinstance(method, property) else method
    method = method.__func__ if isinstance(method, staticmethod | classmethod) else method
    code = getattr(inspect.unwrap(method), "__code__", None) if callable(method) else None
    return code if isinstance(code, CodeType) else None


def _chains(code: CodeType | None) -> Iterator[tuple[str, ...]]:
    """Yield attributes that are loaded one from the other."""
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


def _has_separate_projections(module: nn.Module) -> bool:
    """Tell whether keys or values have a width of their own: these take the identity."""
    return isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is None
