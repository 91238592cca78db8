"""Shampoo: one statistic and one inverse root for every axis of a parameter.

Statistics and roots of an axis of size d are symmetric, and kept packed: ``[d (d + 1) / 2]``.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from experiments.optimizers.collective import refuse_sharded
from experiments.optimizers.left_alone import TransformCoverage, coverage_of
from experiments.optimizers.roots import precondition, robust_roots
from experiments.optimizers.symmetric import pack, packed_gram, stack_length, unpack
from experiments.optimizers.transform import (
    GradientTransform,
    PreconditionedSGD,
    check_choice,
    check_count,
    check_number,
    copied,
    loaded,
    report_kept,
)

# Bounds the memory of one stacked eigenproblem: 64 MiB in float32.
STACK_ELEMENTS = 2**24
STATISTICS = ("every_step", "refresh")
UNIT_AXES = ("root", "identity")


class ShampooPreconditioner(GradientTransform):
    r"""Shampoo's transform without grafting, blocking or warm-up.

    For a gradient with k axes and its unfolding :math:`G_{(i)}` along axis i,

    .. math::
        L_i \leftarrow L_i + G_{(i)} G_{(i)}^T, \quad
        \hat g = g \times_1 L_1^{-1/2k} \cdots \times_k L_k^{-1/2k},

    with :math:`L_i = \varepsilon I` at the start and each root ridged relative to the largest
    eigenvalue of its statistic. Statistics grow every step, roots are refreshed every ``interval``.
    ASDL, the library of the AdaFisher authors, lets statistics grow at refreshes alone
    (``statistics="refresh"``) and has no root for an axis of size 1 (``unit_axes="identity"``), so
    that a 1x1 kernel is not divided by what that root is, a power of its summed squares.

    A refresh that finds no finite roots keeps the old ones: it is counted and logged. Under
    ``torch.distributed`` nothing is exchanged: averaged gradients, as ``DistributedDataParallel``
    leaves them, make the same statistics on every process.

    Parameters with fewer than two axes, or with an axis above ``max_dimension``, keep their raw
    gradient and are listed in ``left_alone``. A parameter without a gradient is skipped.

    Args:
        model: Model whose gradients are transformed. Tied parameters are one parameter.
        interval: Steps between two refreshes of the roots; the first step always refreshes.
        ridge: Start of the statistics and ridge of the roots; epsilon.
        max_dimension: Largest axis; an axis of d costs two ``[d, d]`` matrices and O(d^3) time.
        statistics: Which gradients are summed: of ``"every_step"``, or of a ``"refresh"`` alone.
        unit_axes: What an axis of size 1 has: a ``"root"`` as any other, or the ``"identity"``.

    Raises:
        ValueError: If an argument is out of range.

    Reference:
        Gupta, Koren and Singer, 2018, arXiv 1802.09568, Algorithms 1 and 2.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        interval: int = 1,
        ridge: float = 1e-12,
        max_dimension: int = 8192,
        statistics: str = "every_step",
        unit_axes: str = "root",
    ) -> None:
        check_choice("statistics", statistics, STATISTICS)
        check_choice("unit_axes", unit_axes, UNIT_AXES)
        check_count("interval", interval)
        check_number("ridge", ridge, above=0)
        check_count("max_dimension", max_dimension)
        self.interval = interval
        self.ridge = ridge
        self.statistics = statistics
        self.unit_axes = unit_axes
        self.step = 0
        self.skipped_refreshes = 0
        self.skipped_gradients = 0
        self.left_alone: dict[str, str] = {}
        self._model = model
        self._params: dict[str, nn.Parameter] = {}
        self._statistics: dict[str, list[Tensor]] = {}
        self._roots: dict[str, list[Tensor]] = {}
        for name, param in model.named_parameters():
            if param.ndim < 2:
                self.left_alone[name] = "fewer than two axes"
            elif max(param.shape) > max_dimension:
                self.left_alone[name] = f"an axis above {max_dimension}"
            else:
                self._params[name] = param

    def coverage(self) -> TransformCoverage:
        """Says which parameters have statistics, and why not the others."""
        return coverage_of(self._model, self.left_alone)

    @torch.no_grad()
    def update(self) -> None:
        """Add the gradients to the statistics, refresh roots when due, and precondition."""
        if self.step % self.interval == 0:
            # Looked up anew: a model that is sharded has other parameters from then on.
            refuse_sharded("Shampoo", self._model.parameters())
        grads = {
            name: param.grad.to(torch.promote_types(param.dtype, torch.float32))
            for name, param in self._params.items()
            if param.grad is not None
        }
        norms = [grad.norm() for grad in grads.values()]
        due = self.step % self.interval == 0
        # One non-finite gradient would stay in the sums for ever.
        if not norms or bool(torch.stack([n.to(norms[0].device) for n in norms]).isfinite().all()):
            summed = due or self.statistics == "every_step"
            # A parameter that joins between refreshes needs roots at once.
            self._accumulate({n: g for n, g in grads.items() if summed or n not in self._roots})
        else:
            self.skipped_gradients += 1
        self._refresh([name for name in self._statistics if due or name not in self._roots])
        self._precondition({name: grad for name, grad in grads.items() if name in self._roots})
        self.step += 1

    def _accumulate(self, grads: dict[str, Tensor]) -> None:
        for name, grad in grads.items():
            if name not in self._statistics:
                self._statistics[name] = [
                    pack(self.ridge * torch.eye(size, dtype=grad.dtype, device=grad.device)[None])[
                        0
                    ]
                    for size in grad.shape
                ]
        for names, stack in _stacks(grads):
            for axis in range(1, stack.ndim):
                unfolded = stack.movedim(axis, 1).flatten(2)
                for name, new in zip(names, packed_gram(unfolded.mT), strict=True):
                    self._statistics[name][axis - 1].add_(new)

    def _precondition(self, grads: dict[str, Tensor]) -> None:
        for names, stack in _stacks(grads):
            roots = [
                unpack(torch.stack([self._roots[name][axis] for name in names]), size)
                for axis, size in enumerate(stack.shape[1:])
            ]
            for name, new in zip(names, precondition(stack, roots), strict=True):
                self._params[name].grad.copy_(new)  # type: ignore[union-attr]

    def _refresh(self, names: list[str]) -> None:
        stacks: dict[tuple[int, int, torch.dtype, torch.device], list[tuple[str, int]]]
        stacks = defaultdict(list)
        for name in names:
            for axis, statistic in enumerate(self._statistics[name]):
                order = 2 * len(self._statistics[name])
                size = self._params[name].shape[axis]
                key = (size, order, statistic.dtype, statistic.device)
                stacks[key].append((name, axis))
        fresh: dict[tuple[str, int], Tensor | None] = {}
        for (size, order, *_), members in stacks.items():
            chunk = max(1, STACK_ELEMENTS // size**2)
            for start in range(0, len(members), chunk):
                part = members[start : start + chunk]
                packed = torch.stack([self._statistics[n][a] for n, a in part])
                if size == 1 and self.unit_axes == "identity":
                    fresh |= dict.fromkeys(part, torch.ones_like(packed[0]))
                    continue
                roots = robust_roots(list(unpack(packed, size)), order, self.ridge)
                for member, root in zip(part, roots, strict=True):
                    fresh[member] = None if root is None else pack(root[None])[0]
        kept = []
        for name in names:
            new = [fresh[name, axis] for axis in range(len(self._statistics[name]))]
            usable = [root for root in new if root is not None]
            # All axes of a parameter change together: roots of two moments do not fit each other.
            if len(usable) == len(new):
                self._roots[name] = usable
            else:
                kept.append(name)
        if kept:
            self.skipped_refreshes += len(kept)
            report_kept("Shampoo", self.step, kept, self.skipped_refreshes)

    def state_dict(self) -> dict[str, Any]:
        """Return a snapshot; statistics and roots by parameter name."""
        return {
            "step": self.step,
            "skipped_refreshes": self.skipped_refreshes,
            "skipped_gradients": self.skipped_gradients,
            "statistics": copied(self._statistics),
            "roots": copied(self._roots),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Copy a snapshot into the state; one of another model is a ``ValueError``."""
        self._statistics = loaded(state_dict["statistics"], self._params)
        self._roots = loaded(state_dict["roots"], self._params)
        self.step = state_dict["step"]
        self.skipped_refreshes = state_dict["skipped_refreshes"]
        self.skipped_gradients = state_dict["skipped_gradients"]


def _stacks(grads: dict[str, Tensor]) -> Iterator[tuple[list[str], Tensor]]:
    """Gradients of one shape in stacks ``[n, d_1, ..., d_k]``, with their names."""
    alike: dict[tuple[torch.Size, torch.dtype, torch.device], list[str]] = defaultdict(list)
    for name, grad in grads.items():
        alike[grad.shape, grad.dtype, grad.device].append(name)
    for (shape, _, device), names in alike.items():
        at_once = stack_length(max(shape) ** 2, device)
        for start in range(0, len(names), at_once):
            part = names[start : start + at_once]
            first = grads[part[0]][None]
            yield part, first if len(part) == 1 else torch.stack([grads[name] for name in part])


class Shampoo(PreconditionedSGD):
    """Shampoo, then clipping, then SGD.

    Args:
        model: Model to train.
        lr: Learning rate.
        momentum: Momentum of SGD.
        weight_decay: Coupled weight decay.
        interval: Steps between two refreshes of the roots.
        ridge: Start of the statistics and ridge of the roots.
        max_dimension: Parameters with a longer axis keep their raw gradient.
        statistics: Which gradients are summed: of ``"every_step"``, or of a ``"refresh"`` alone.
        unit_axes: What an axis of size 1 has: a ``"root"`` as any other, or the ``"identity"``.
        max_norm: Clipping threshold of the preconditioned gradient; ``None`` for off.
        fused: Whether SGD's step is torch's fused one; ``None`` leaves it to torch.
        params: Torch-style parameter groups; all parameters of ``model`` by default.

    Example:
        >>> model = nn.Linear(3, 2)
        >>> optimizer = Shampoo(model, lr=0.1)
        >>> model(torch.ones(4, 3)).square().mean().backward()
        >>> optimizer.step()
    """

    transform: ShampooPreconditioner

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        interval: int = 1,
        ridge: float = 1e-12,
        max_dimension: int = 8192,
        statistics: str = "every_step",
        unit_axes: str = "root",
        max_norm: float | None = None,
        fused: bool | None = None,
        params: Iterable[Tensor] | Iterable[dict[str, Any]] | None = None,
    ) -> None:
        transform = ShampooPreconditioner(
            model,
            interval=interval,
            ridge=ridge,
            max_dimension=max_dimension,
            statistics=statistics,
            unit_axes=unit_axes,
        )
        super().__init__(
            model.parameters() if params is None else params,
            transform,
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            max_norm=max_norm,
            fused=fused,
        )
