"""Gradient transforms in front of SGD: precondition, then clip, then step."""

import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from experiments.likelihood import LOGITS, Likelihood
from experiments.optimizers.forms import start_momentum
from experiments.optimizers.left_alone import TransformCoverage

log = logging.getLogger(__name__)


class GradientTransform(ABC):
    """Rewrites the gradients of a model in place between ``backward`` and the step."""

    def observe(  # noqa: B027 - not every transform looks
        self, logits: Tensor, *, likelihood: Likelihood | None = LOGITS, terms: int | None = None
    ) -> None:
        """Sees the model output of a forward pass, before ``backward``.

        Args:
            logits: The rows that the loss averages over, ``[rows, classes]``, with their graph.
            likelihood: What the loss of the model's output is the negative log of.
            terms: What the loss divides its sum by, where that is not the number of rows.
        """

    def check_likelihood(self, likelihood: Likelihood | None) -> None:  # noqa: B027
        """Raise ``ValueError`` if it can do nothing with a task whose likelihood this is."""

    @abstractmethod
    def update(self) -> None:
        """Replace ``.grad`` of the parameters by the transformed gradient."""

    @abstractmethod
    def coverage(self) -> TransformCoverage:
        """Says which parameters it rewrites, and why not the others."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return a snapshot of plain tensors and numbers that shares no memory with the state."""

    @abstractmethod
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Copy a snapshot of ``state_dict`` into the state."""

    def close(self) -> None:  # noqa: B027 - not every transform has hooks
        """Remove the hooks, where there are any."""


class PreconditionedSGD(torch.optim.SGD):
    r"""SGD on transformed gradients.

    With the transform :math:`P` and the clipping threshold :math:`c`,

    .. math::
        \hat g = P(g), \quad
        \tilde g = \hat g \min(1, c / \lVert \hat g \rVert_2), \quad
        u \leftarrow \mu u + \tilde g + \kappa \theta, \quad
        \theta \leftarrow \theta - \alpha u,

    where the norm runs over all parameters together. Clipping comes after the transform and before
    the weight decay, as in the AdaFisher authors' K-FAC and Shampoo runs.

    Args:
        params: Parameters or torch-style parameter groups.
        transform: Transform of the gradients; ``P``.
        lr: Learning rate; alpha.
        momentum: Momentum of SGD; mu.
        weight_decay: Coupled weight decay (added to the gradient); kappa.
        max_norm: Largest norm of the transformed gradient; c. ``None`` switches clipping off.
        fused: Whether SGD's step is torch's fused one; None leaves it to torch.

    Raises:
        ValueError: If a hyperparameter is out of range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        transform: GradientTransform,
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        max_norm: float | None = None,
        fused: bool | None = None,
    ) -> None:
        check_number("lr", lr, at_least=0)
        check_number("momentum", momentum, at_least=0, below=1)
        check_number("weight_decay", weight_decay, at_least=0)
        if max_norm is not None:
            check_number("max_norm", max_norm, above=0)
        self.transform = transform
        self.max_norm = max_norm
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=fused)
        # A loss scale would be taken out by SGD, after transform and clipping have seen it.
        self._step_supports_amp_scaling = False

    def observe(
        self, logits: Tensor, *, likelihood: Likelihood | None = LOGITS, terms: int | None = None
    ) -> None:
        """Hands the model output to the transform; ``.grad`` stays as it is.

        Args:
            logits: The rows that the loss averages over, ``[rows, classes]``, with their graph.
            likelihood: What the loss of the model's output is the negative log of.
            terms: What the loss divides its sum by, where that is not the number of rows.
        """
        self.transform.observe(logits, likelihood=likelihood, terms=terms)

    def check_likelihood(self, likelihood: Likelihood | None) -> None:
        """Raise ``ValueError`` if the transform can do nothing with that likelihood."""
        self.transform.check_likelihood(likelihood)

    def coverage(self) -> TransformCoverage:
        """Says which parameters the transform rewrites, and why not the others."""
        return self.transform.coverage()

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Callable[[], Tensor] | None = None
    ) -> Tensor | None:
        """Transform, clip and step.

        Args:
            closure: Clears the gradients, computes the loss (with ``observe`` where the transform
                needs it), calls ``backward`` and returns the loss.

        Returns:
            The loss of the closure, or ``None`` without one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.transform.update()
        if self.max_norm is not None:
            params = [p for group in self.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(params, self.max_norm)
        start_momentum(self)
        super().step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return a snapshot of SGD's state with the transform's under ``transform``."""
        return copy.deepcopy(super().state_dict()) | {"transform": self.transform.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Copy a snapshot into SGD and the transform; the snapshot stays as it is."""
        # torch keeps the tensors of the dictionary it is given, so two optimizers would share them.
        sgd = {key: value for key, value in state_dict.items() if key != "transform"}
        super().load_state_dict(copy.deepcopy(sgd))
        self.transform.load_state_dict(state_dict["transform"])

    def close(self) -> None:
        """Remove the hooks of the transform from the model."""
        self.transform.close()


def check_number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
) -> None:
    """Raise ``ValueError`` with name, value and bounds unless ``value`` is a number in them."""
    bounds = {">": above, ">=": at_least, "<": below}
    text = " and ".join(f"{sign} {bound}" for sign, bound in bounds.items() if bound is not None)
    inside = (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and (above is None or value > above)
        and (at_least is None or value >= at_least)
        and (below is None or value < below)
        and value < float("inf")
    )
    if not inside:
        raise ValueError(f"Invalid {name}: {value!r}. Must be a number {text}.")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise ``ValueError`` with the choices unless ``value`` is one of them."""
    if value not in choices:
        raise ValueError(f"Invalid {name}: {value!r}. Must be one of {', '.join(choices)}.")


def check_count(name: str, value: object) -> None:
    """Raise ``ValueError`` unless ``value`` is a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"Invalid {name}: {value!r}. Must be a whole number >= 1.")


def report_kept(method: str, step: int, names: Sequence[str], total: int) -> None:
    """Log the parameters of which a refresh was of no use.

    Args:
        method: Name of the method.
        step: Step of the refresh.
        names: Parameters whose old curvature stays.
        total: How often that has happened so far.
    """
    log.warning(
        "%s, step %d: not finite or not decomposable, so that the old curvature stays (%d so far): "
        "%s",
        method,
        step,
        total,
        ", ".join(names),
    )


def copied(tensors: Mapping[str, Sequence[Tensor]]) -> dict[str, list[Tensor]]:
    """Copy named lists of tensors."""
    return {name: [tensor.clone() for tensor in group] for name, group in tensors.items()}


def loaded(
    tensors: Mapping[str, Sequence[Tensor]], params: Mapping[str, Tensor]
) -> dict[str, list[Tensor]]:
    """Copy named lists of tensors to the devices of the parameters with these names.

    Raises:
        ValueError: If a name is not one of a parameter.
    """
    unknown = sorted(set(tensors) - set(params))
    if unknown:
        raise ValueError(f"The state names unknown parameters: {', '.join(unknown)}.")
    return {
        name: [tensor.to(params[name].device, copy=True) for tensor in group]
        for name, group in tensors.items()
    }
