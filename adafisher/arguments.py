"""Checked arguments of the optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from adafisher.fisher import CONSTANT_FACTORS
from adafisher.layers.registry import NORM_LAYERS
from adafisher.scalars import check_number

_CHOICES = {
    "normalize": ("after", "before"),
    "factor_init": ("zeros", "ones"),
    "norm_layers": NORM_LAYERS,
    "constant_factor": CONSTANT_FACTORS,
}


@dataclass(frozen=True)
class FactorOptions:
    """What is one for the whole optimizer, because layers and not parameters have factors.

    Attributes:
        gammas: ``(gamma_1, gamma_2)``: ``average <- gamma_1 average + (1 - gamma_2) estimate``.
        update_interval: Optimizer steps between refreshes.
        normalize: Min-Max ``after`` the running average or ``before`` it.
        factor_init: Start of the running averages.
        minmax_eps: Added to the range in Min-Max.
        norm_layers: Form of the norm-layer factors.
        embeddings: Whether embeddings have factors.
        patch_mean: Whether ``H`` of a convolution is divided by the length of its patches too.
        constant_factor: What Min-Max makes of a constant factor.
    """

    gammas: tuple[float, float]
    update_interval: int
    normalize: str
    factor_init: str
    minmax_eps: float
    norm_layers: str
    embeddings: bool = False
    patch_mean: bool = False
    constant_factor: str = "ones"

    def __post_init__(self) -> None:
        """Check every value; ``gammas`` may come as any pair."""
        object.__setattr__(self, "gammas", _pair("gammas", self.gammas))
        check_number("gammas[0]", self.gammas[0], low=0.0, high=1.0)
        check_number("gammas[1]", self.gammas[1], low=0.0, below=1.0)
        interval = self.update_interval
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise ValueError(f"Invalid update_interval: {interval!r}. Must be a whole number >= 1.")
        check_number("minmax_eps", self.minmax_eps, low=0.0)
        for name in ("embeddings", "patch_mean"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"Invalid {name}: {getattr(self, name)!r}. Must be True or False.")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"Invalid {name}: {getattr(self, name)!r}. Must be one of {', '.join(choices)}."
                )


def check_group(group: Mapping[str, Any]) -> None:
    """Check the hyperparameters of a parameter group.

    Args:
        group: Complete group, defaults filled in.

    Raises:
        ValueError: A value is out of range, or belongs to the whole optimizer.
    """
    check_not_differentiable(group.get("differentiable", False))
    for option in fields(FactorOptions):
        if option.name in group:
            raise ValueError(
                f"Invalid group option {option.name}: {group[option.name]!r}. "
                "Must be given once, for the whole optimizer."
            )
    check_number("lr", group["lr"], low=0.0)
    check_number("beta", group["beta"], low=0.0, below=1.0)
    check_number("damping", group["damping"], above=0.0)
    check_number("weight_decay", group["weight_decay"], low=0.0)
    for name in ("maximize", "decay_norms_and_biases"):
        if not isinstance(group[name], bool):
            raise ValueError(f"Invalid {name}: {group[name]!r}. Must be True or False.")


def check_not_differentiable(differentiable: object) -> None:
    """Refuse to differentiate through the step.

    Args:
        differentiable: Argument of the optimizer.

    Raises:
        ValueError: It is not False.
    """
    if differentiable is not False:
        raise ValueError(
            f"Invalid differentiable: {differentiable!r}. Must be False: the factors are taken by "
            "hooks that leave no graph, so no gradient could flow through them."
        )


def check_execution(foreach: object, fused: object) -> None:
    """Check how the step is to be carried out.

    Args:
        foreach: Whether parameters are batched.
        fused: Whether the step is compiled.

    Raises:
        ValueError: One is neither a truth value nor None, or both are True.
    """
    for name, value in (("foreach", foreach), ("fused", fused)):
        if value is not None and not isinstance(value, bool):
            raise ValueError(f"Invalid {name}: {value!r}. Must be True, False or None.")
    if foreach and fused:
        raise ValueError("Invalid fused: True with foreach=True. Must be at most one of them.")


def check_model(model: object) -> None:
    """Refuse what the layers cannot be read from.

    Args:
        model: First argument of the optimizer.

    Raises:
        TypeError: It is not a module.
        ValueError: It is a wrapper around the module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"Invalid model: {type(model).__name__}. Must be a torch.nn.Module: pass the model "
            "itself, not model.parameters()."
        )
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    if isinstance(model, wrappers):
        raise ValueError(
            f"Invalid model: {type(model).__name__}. Must be the module before it is wrapped "
            "or compiled: pass model.module."
        )
    if hasattr(model, "_orig_mod"):
        raise ValueError(
            f"Invalid model: {type(model).__name__}. Must be the module before it is wrapped "
            "or compiled."
        )
    # By name: to import FSDP1 takes a second.
    mro = (kind.__name__ for module in model.modules() for kind in type(module).__mro__)
    if "FullyShardedDataParallel" in mro:
        raise ValueError(
            "Invalid model: FullyShardedDataParallel flattens its parameters. "
            "Must be sharded by torch.distributed.fsdp.fully_shard instead."
        )


def _pair(name: str, value: Any) -> tuple[Any, Any]:
    items = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else ()
    if len(items) != 2:
        raise ValueError(f"Invalid {name}: {value!r}. Must be two numbers.")
    return items[0], items[1]
