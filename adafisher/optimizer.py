"""AdaFisher and AdaFisherW as ``torch.optim`` optimizers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parameter import is_lazy

from adafisher import checkpoint
from adafisher.arguments import (
    FactorOptions,
    check_execution,
    check_group,
    check_model,
    check_not_differentiable,
)
from adafisher.capture.calls import refuse_capture
from adafisher.coverage import Coverage, warn_uncovered
from adafisher.curvature import Curvature
from adafisher.execution.scaling import LossScale
from adafisher.execution.sharding import check_shards, local, mesh_group, place_like
from adafisher.execution.step import Hyperparameters, Update, form_fisher_diag
from adafisher.execution.stepper import Stepper
from adafisher.groups import (
    ALIAS_OF_BETA,
    ModelParameters,
    check_gradients,
    each_parameter,
    plain_group,
    sparse_weights,
    take_momentum,
)
from adafisher.layers.registry import SUPPORTED
from adafisher.stats import CurvatureStats, coverage_of, curvature_stats


class AdaFisher(torch.optim.Optimizer):
    r"""Momentum preconditioned by a diagonal block-Kronecker Fisher.

    For every supported layer, with ``H`` the mean squared (bias-augmented) input and ``S`` the mean
    squared output gradient over all rows,

        H <- gamma_1 H + (1 - gamma_2) H_new        S <- gamma_1 S + (1 - gamma_2) S_new
        F = minmax(H) kron minmax(S) + lambda
        m <- beta m + (1 - beta) g
        theta <- theta - lr * (m / (1 - beta^t)) / F

    The first moment is kept raw and corrected on use: the recursion as printed would correct it
    twice. Parameters outside supported layers take ``F = 1``.

    Args:
        model: The model, not its parameters: its layers are hooked.
        lr: Learning rate (eta). A tensor of one element is read at each step.
        params: Parameters, or torch-style groups with ``lr``, ``beta``, ``damping``,
            ``weight_decay``, ``decay_norms_and_biases`` or ``maximize`` of their own. All of the
            model's by default.
        beta: Decay of the momentum; ``OneCycleLR`` and ``CyclicLR`` cycle it.
        damping: Added to the diagonal (lambda).
        gammas: ``(gamma_1, gamma_2)`` of the running averages.
        update_interval: Factors are refreshed at the optimizer's steps 0, ``update_interval``, ...
        weight_decay: Added to the gradient, times the parameter (decoupled in ``AdaFisherW``).
        decay_norms_and_biases: Whether that takes in norm layers, biases and other parameters of
            fewer than two axes, see ``groups.undecayed``.
        normalize: Min-Max ``"after"`` the running average (paper), or each estimate ``"before"`` it
            (released code).
        factor_init: What the running averages start from, ``"zeros"`` or ``"ones"``. As Min-Max
            removes the scale, zeros need no bias correction.
        minmax_eps: Added to the range in Min-Max.
        norm_layers: ``"per_channel"`` factors (v3, Proposition 3.1, whose input is taken raw as
            printed), or ``"two_vector"``, the released code's.
        patch_mean: Divide ``H`` of a convolution by the length of its patches too, as the released
            code does: a constant factor, which Min-Max removes only without ``minmax_eps``. (In
            grouped convolutions that code averages ``H`` over the groups; here each has its own.)
        constant_factor: What Min-Max makes of a constant factor, such as that of a single output:
            ``"ones"``, or the ``"zeros"`` of the released code.
        embeddings: Give ``nn.Embedding`` curvature, as the linear layer on one-hot inputs that it
            is: ``activation_diag`` is how often each token occurs.
        maximize: Ascend instead of descend.
        loss_scale: Needed with a ``GradScaler`` only if ``unscale_`` is called before the step: the
            scaler, or a number, or a function that returns the scale. With a function the scaler
            unscales and skips by itself, which Lightning wants when it clips.
        foreach: Batch the calls of all parameters (True, which takes as much memory again as they
            do), of none (False), or of as many as fit into the cache (None). None and False leave
            to it what ``fused`` does not take.
        fused: Take the step in one pass over memory: of float32 on the CPU by a C library, where
            one can be built (``native``), and of large parameters on CUDA by ``torch.compile``
            (None); by the compiler also what the library leaves, which on the CPU takes tens of
            seconds once (True); or never (False). Where compiling fails it warns, and takes the
            plain step. Neither choice changes the result by more than rounding.
        process_group: Processes that average their gradients, and whose rows are pooled; each of
            them has to call ``step``. None is the mesh of a sharded model, and otherwise all of
            ``torch.distributed`` once it is initialised. False is this process alone.
        differentiable: Refused; there for the message.

    When rows count, what is refused, what takes ``F = 1`` and what to do on several processes, is
    said in ``help(adafisher)``.

    Raises:
        ValueError: An argument is out of range, or a parameter is not of the model.
        TypeError: ``model`` is not a module, or ``process_group`` is not a process group.

    Example:
        >>> model = torch.nn.Linear(3, 2)
        >>> optimizer = AdaFisher(model, lr=1e-3)
        >>> model(torch.ones(4, 3)).square().mean().backward()
        >>> optimizer.step()
        >>> optimizer.zero_grad()

    Reference:
        Martins Gomes, Zhang, Belilovsky, Wolf, Hosseini, "AdaFisher: Adaptive Second Order
        Optimization via Fisher Information", ICLR 2025, arXiv 2405.16397.
    """

    _decoupled = False

    def __init__(
        self,
        model: nn.Module,
        lr: float = 1e-3,
        *,
        params: Iterable[Any] | None = None,
        beta: float = 0.9,
        damping: float = 1e-3,
        gammas: tuple[float, float] = (0.92, 0.008),
        update_interval: int = 1,
        weight_decay: float = 0.0,
        decay_norms_and_biases: bool = True,
        normalize: Literal["after", "before"] = "after",
        factor_init: Literal["zeros", "ones"] = "zeros",
        minmax_eps: float = 0.0,
        norm_layers: Literal["per_channel", "two_vector"] = "per_channel",
        patch_mean: bool = False,
        constant_factor: Literal["ones", "zeros"] = "ones",
        embeddings: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        loss_scale: Any = None,
        process_group: dist.ProcessGroup | Literal[False] | None = None,
        differentiable: bool = False,
    ) -> None:
        """See the class."""
        check_model(model)
        check_shards(model)
        check_execution(foreach, fused)
        check_not_differentiable(differentiable)
        self._loss_scale = LossScale(loss_scale)
        options = FactorOptions(
            gammas=gammas,
            update_interval=update_interval,
            normalize=normalize,
            factor_init=factor_init,
            minmax_eps=minmax_eps,
            norm_layers=norm_layers,
            embeddings=embeddings,
            patch_mean=patch_mean,
            constant_factor=constant_factor,
        )
        defaults = plain_group(
            {
                "lr": lr,
                "beta": beta,
                "damping": damping,
                "weight_decay": weight_decay,
                "decay_norms_and_biases": decay_norms_and_biases,
                "maximize": maximize,
            }
        )
        check_group(defaults)
        defaults[ALIAS_OF_BETA] = defaults["beta"]
        self._model_parameters = ModelParameters(model)
        process_group = mesh_group(model) if process_group is None else process_group
        self._curvature = Curvature(model, options, process_group)
        self._stepper = Stepper(foreach=foreach, fused=fused)
        try:
            if not self._curvature.capture.layers:
                raise ValueError(f"Invalid model: it has none of the layers {SUPPORTED}.")
            super().__init__(model.parameters() if params is None else params, defaults)
        except BaseException:
            self.close()
            raise
        trainable = {name for _, name, param in self._each() if param.requires_grad}
        warn_uncovered(type(self).__name__, self.coverage(), trainable)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters of the model, as ``torch.optim.Optimizer`` does.

        Layers that were put into the model since, such as a new head, are found then.

        Args:
            param_group: ``params`` and any of the group's own hyperparameters. Left unchanged.

        Raises:
            ValueError: A hyperparameter is out of range or belongs to the whole optimizer, or a
                parameter is not of the model or given twice.
        """
        group = plain_group(param_group)
        check_group({**self.defaults, **group})
        given = group["params"]
        if not isinstance(given, set):  # torch refuses a set, whose order changes between runs
            given = [given] if isinstance(given, Tensor) else list(given)
            bare = [entry[1] if isinstance(entry, tuple) else entry for entry in given]
            known = self._model_parameters
            if any(isinstance(entry, Tensor) and entry not in known.names for entry in bare):
                known.look_again()
                self._curvature.capture.find()
            sparse = sparse_weights(self._curvature.capture.model)
            group["params"] = [known.entry(i, x, sparse=sparse) for i, x in enumerate(bare)]
            if len(set(bare)) < len(bare):
                raise ValueError("Invalid params: a parameter is given twice.")
        is_aliased = ALIAS_OF_BETA in group
        super().add_param_group(group)
        added = self.param_groups[-1]
        if not is_aliased:
            del added[ALIAS_OF_BETA]  # the default, which the group may have another beta than
        self._curvature.capture.tracked.update(added["params"])

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, and with them the rows that were pooled beside them."""
        super().zero_grad(set_to_none)
        self._curvature.capture.clear()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step.

        Args:
            closure: Reevaluates the model and returns the loss.

        Returns:
            The closure's loss.

        Raises:
            RuntimeError: A ``GradScaler`` has unscaled the gradients and ``loss_scale`` is not
                given, a gradient is sparse, or a CUDA graph is being captured.
        """
        refuse_capture(self.param_groups[0]["params"][0])
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        waiting = [
            (group, name, param, grad)
            for group, name, param in self._each()
            if (grad := param.grad) is not None
        ]
        check_gradients((name, grad) for _, name, _, grad in waiting)
        self._curvature.capture.drop_cleared()
        scale = self._loss_scale.take(self, has_rows=self._curvature.has_rows())
        if scale is None:  # gradients overflowed
            self._curvature.capture.clear()
            return loss
        if self._curvature.start_refresh():  # what has no curvature need not wait for other ranks
            owners = self._curvature.owners
            self._stepper.run(self._updates(x for x in waiting if x[2] not in owners))
            waiting = [x for x in waiting if x[2] in owners]
        self._curvature.refresh(scale)
        self._stepper.run(self._updates(waiting))
        self._curvature.advance()
        return loss

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Torch's protocol: the scaler leaves unscaling and skipping to this optimizer."""
        return not self._loss_scale.is_function

    @property
    def form(self) -> str:
        """How the step is computed: ``native``, ``compiled``, ``foreach``, or ``mixed``.

        Mixed is small parameters together and large ones in blocks; it also takes what the first
        two leave. The forms differ by rounding.
        """
        return self._stepper.form(local(self.param_groups[0]["params"][0]))

    def coverage(self) -> Coverage:
        """Tell which parameters have curvature; costs nothing when not called."""
        return coverage_of(self._each(), self._curvature, names=self._model_parameters.names)

    def curvature_stats(self) -> CurvatureStats:
        """Measure spread of ``F / damping``, effective step, dropped estimates and factor memory.

        It is computed when called, a parameter at a time, and waits for the device.
        """
        return curvature_stats(self._each(), self._curvature)

    def fisher_diag(self, param: Tensor) -> Tensor | None:
        """Form ``F`` with the damping, as the last step divided by it.

        Args:
            param: A parameter of the optimizer; of a sharded one, this rank's part counts.

        Returns:
            The diagonal, shaped as ``param``; None where there is no estimate, so that ``F = 1``.

        Raises:
            KeyError: It is none of the optimizer's parameters.
        """
        for group, _, known in self._each():
            if known is param:
                terms = self._curvature.terms(param)
                if not terms:
                    return None
                return form_fisher_diag(local(param), terms, damping=group["damping"])
        raise KeyError(f"no parameter of this optimizer: shape {tuple(param.shape)}")

    def close(self) -> None:
        """Remove the hooks. Later steps use the factors as they are."""
        self._curvature.capture.close()

    def __getstate__(self) -> dict[str, Any]:
        """Give what a copy or a pickle takes along: the layers, so the model, and the factors."""
        own = ("_model_parameters", "_curvature", "_loss_scale", "_stepper")
        state: dict[str, Any] = super().__getstate__()
        return state | {name: getattr(self, name) for name in own}

    def state_dict(self) -> dict[str, Any]:
        """Take a snapshot as plain tensors and numbers; later steps do not change it.

        Rows that are pooled for the next step are part of it, gradients are not.

        Of a sharded parameter the momentum is a ``DTensor``, as in torch; the factors are whole,
        and the same on all ranks. ``torch.distributed.checkpoint`` takes the state between two
        steps (pooled rows are those of one rank). What it wrote loads in place into an optimizer
        that has taken a step, or by ``dcp_to_torch_save`` into any, sharded or not;
        ``adafisher.get_optimizer_state_dict`` gives what loads into any in place.
        """
        return cast(dict[str, Any], checkpoint.copy(self.live_state()))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a snapshot, hyperparameters included. The argument is neither kept nor changed.

        Args:
            state_dict: What ``state_dict`` returned.

        Raises:
            ValueError: It does not fit the model; nothing is changed then.
        """
        checkpoint.check(state_dict, self.live_state())
        own = checkpoint.copy(state_dict)
        own["state"] = checkpoint.by_position(own.get("state", {}))
        curvature = own.pop("curvature")
        super().load_state_dict(own)
        for group in self.param_groups:
            group.setdefault("decay_norms_and_biases", True)  # older states have none
        for param, entry in self.state.items():
            entry["exp_avg"] = place_like(entry["exp_avg"], param)
        self._curvature.load_state(curvature)

    def live_state(self) -> dict[str, Any]:
        """Give ``state_dict`` with the tensors themselves, which later steps change."""
        self._curvature.capture.drop_cleared(loaded=False)
        for group in self.param_groups:
            take_momentum(group)
        packed = super().state_dict()
        packed["curvature"] = self._curvature.state() | {
            "parameters": {
                name: None if is_lazy(param) else list(param.shape)
                for _, name, param in self._each()
            },
        }
        return packed

    def _each(self) -> Iterator[tuple[dict[str, Any], str, Tensor]]:
        return each_parameter(self.param_groups)

    def _updates(
        self, waiting: Iterable[tuple[dict[str, Any], str, Tensor, Tensor]]
    ) -> Iterator[Update]:
        """Count a step of each parameter, given with its gradient, and say what it is."""
        curvature = self._curvature
        numbers: dict[tuple[int, bool, int], tuple[float, Hyperparameters]] = {}
        hypers: dict[tuple[int, bool], Hyperparameters] = {}
        for group, name, param, grad in waiting:
            state = self.state[param]
            if not state:
                state["step"] = 0
                state["exp_avg"] = torch.zeros_like(param, memory_format=torch.preserve_format)
            state["step"] = count = state["step"] + 1
            decays = group["decay_norms_and_biases"] or not self._model_parameters.is_undecayed(
                param
            )
            key = id(group), decays, count
            found = numbers.get(key)
            if found is None:  # one object of hyperparameters a group
                hyper = hypers.get(key[:2]) or self._hyperparameters(group, decays=decays)
                hypers[key[:2]] = hyper
                found = numbers[key] = group["lr"] / (1.0 - hyper.beta**count), hyper
            terms = curvature.terms(param)
            if not terms:
                curvature.count_identity(name, param)
            yield Update(
                local(param),
                local(grad),
                local(state["exp_avg"]),
                terms,
                *found,
            )

    def _hyperparameters(self, group: dict[str, Any], *, decays: bool) -> Hyperparameters:
        decay = group["weight_decay"] if decays else 0.0
        return Hyperparameters(
            beta=group["beta"],
            coupled_decay=0.0 if self._decoupled else decay,
            shrink=group["lr"] * decay if self._decoupled else 0.0,
            damping=group["damping"],
            maximize=group["maximize"],
        )


class AdaFisherW(AdaFisher):
    """AdaFisher with decoupled weight decay.

        theta <- theta - lr * ((m / (1 - beta^t)) / F + weight_decay * theta)

    The arguments are those of ``AdaFisher``, but ``weight_decay`` (kappa) is decoupled. Its default
    of 1e-2 is the paper's for vision transformers (arXiv 2405.16397v3, Table 2).
    """

    _decoupled = True

    def __init__(
        self,
        model: nn.Module,
        lr: float = 1e-3,
        *,
        params: Iterable[Any] | None = None,
        beta: float = 0.9,
        damping: float = 1e-3,
        gammas: tuple[float, float] = (0.92, 0.008),
        update_interval: int = 1,
        weight_decay: float = 1e-2,
        decay_norms_and_biases: bool = True,
        normalize: Literal["after", "before"] = "after",
        factor_init: Literal["zeros", "ones"] = "zeros",
        minmax_eps: float = 0.0,
        norm_layers: Literal["per_channel", "two_vector"] = "per_channel",
        patch_mean: bool = False,
        constant_factor: Literal["ones", "zeros"] = "ones",
        embeddings: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        loss_scale: Any = None,
        process_group: dist.ProcessGroup | Literal[False] | None = None,
        differentiable: bool = False,
    ) -> None:
        """See ``AdaFisher``."""
        super().__init__(
            model,
            lr,
            params=params,
            beta=beta,
            damping=damping,
            gammas=gammas,
            update_interval=update_interval,
            weight_decay=weight_decay,
            decay_norms_and_biases=decay_norms_and_biases,
            normalize=normalize,
            factor_init=factor_init,
            minmax_eps=minmax_eps,
            norm_layers=norm_layers,
            patch_mean=patch_mean,
            constant_factor=constant_factor,
            embeddings=embeddings,
            maximize=maximize,
            foreach=foreach,
            fused=fused,
            loss_scale=loss_scale,
            process_group=process_group,
            differentiable=differentiable,
        )
