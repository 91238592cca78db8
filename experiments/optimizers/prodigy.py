"""Prodigy with every argument a value that a config can have."""

import contextlib
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

import prodigyopt
from torch import Tensor

from experiments.optimizers.transform import check_number


class Prodigy(prodigyopt.Prodigy):
    """The authors' class, whose default of ``growth_rate`` is infinity: ``None`` here.

    Args:
        params: Parameters, or groups of one rate.
        lr: A factor of the estimated distance; one for all groups.
        betas: Decay rates of the moments.
        beta3: Decay rate of the sums behind the estimate; ``None``: the root of the second of
            ``betas``.
        eps: Added to the denominator, times the estimate.
        weight_decay: Weight decay.
        decouple: Whether it is AdamW's, times ``lr`` and the estimate; else it is added to the
            gradient.
        use_bias_correction: Whether Adam's bias correction is in the step.
        safeguard_warmup: Whether the rate is left out of the estimate's denominator, as for one
            that begins near 0.
        d0: The first estimate of the distance.
        d_coef: A factor of the estimate.
        growth_rate: By which factor the estimate may grow in a step; ``None``: any.
        slice_p: Of how many entries one is kept for the estimate.

    Raises:
        ValueError: If a hyperparameter is out of range.

    Reference:
        Mishchenko and Defazio, "Prodigy: an expeditiously adaptive parameter-free learner", 2023,
        arXiv 2306.06101, Algorithm 4.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1.0,
        *,
        betas: Sequence[float] = (0.9, 0.999),
        beta3: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decouple: bool = True,
        use_bias_correction: bool = False,
        safeguard_warmup: bool = False,
        d0: float = 1e-6,
        d_coef: float = 1.0,
        growth_rate: float | None = None,
        slice_p: int = 1,
    ) -> None:
        check_number("lr", lr, at_least=0)
        check_number("weight_decay", weight_decay, at_least=0)
        if growth_rate is not None:
            check_number("growth_rate", growth_rate, at_least=1)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints which decay it has
            super().__init__(
                params,
                lr=lr or 1.0,  # it refuses 0, at which its steps are right
                betas=tuple(betas),
                beta3=beta3,
                eps=eps,
                weight_decay=weight_decay,
                decouple=decouple,
                use_bias_correction=use_bias_correction,
                safeguard_warmup=safeguard_warmup,
                d0=d0,
                d_coef=d_coef,
                growth_rate=math.inf if growth_rate is None else growth_rate,
                slice_p=slice_p,
            )
        if lr == 0:
            self.defaults["lr"] = 0.0
            for group in self.param_groups:
                group["lr"] = 0.0
