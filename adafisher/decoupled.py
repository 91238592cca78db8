"""AdaFisherW: AdaFisher with decoupled weight decay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from torch import distributed as dist
from torch import nn

from adafisher.optimizer import AdaFisher


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
