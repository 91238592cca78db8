"""EKFAC: K-FAC's eigenbases with second moments of the per-example gradients in them."""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from experiments.optimizers.collective import sum_over_ranks
from experiments.optimizers.eigenbasis import LayerCall, eigenbasis, rescale, second_moments
from experiments.optimizers.inverses import Factor
from experiments.optimizers.kfac import KFAC
from experiments.optimizers.kfac_preconditioner import KFACPreconditioner
from experiments.optimizers.preconditioned_layers import PreconditionedLayer


class EKFACPreconditioner(KFACPreconditioner):
    r"""EKFAC's transform.

    With the factors A and B of ``KFACPreconditioner``, their eigenvectors :math:`U_A` and
    :math:`U_B`, and the gradient :math:`G_n` of the summed loss over example n,

    .. math::
        S = \frac1N \sum_n (U_B^T G_n U_A)^{\circ 2}, \quad
        \hat G = U_B \left[(U_B^T G U_A) \oslash (S + \lambda)\right] U_A^T,

    and alike for the bias in the basis :math:`U_B`. N is the number of loss rows.

    - The damping is added to the second moments whole: it is not split between the factors, as
      S has no factors. So the same ``damping`` damps otherwise than in K-FAC.
    - An example is an index of the layer's first input axis, with all its positions and all the
      layer's calls in one forward pass. In a language model it is a sequence: with sampled labels
      the square of the sum over its tokens has the sum of the tokens' squares as its mean.
    - Bases and moments are of the batch of the refresh. The paper takes moments in every step:
      that is a sampled backward pass a step, which ``interval`` is there to avoid. ``ema_decay``
      averages the factors that give the bases.
    - ``positions`` scales A alone, which its eigenvectors do not see: it changes nothing here.

    Reference:
        George et al., 2018, arXiv 1806.03884, algorithm 1 (its EKFAC without running averages).
    """

    method = "EKFAC"

    def __init__(self, model: nn.Module, **options: Any) -> None:
        super().__init__(model, **options)
        # By layer, then by forward pass and number of examples.
        self._calls: dict[str, dict[tuple[int, ...], list[LayerCall]]] = defaultdict(dict)

    def _pool(self, layer: PreconditionedLayer, inputs: Tensor, grad: Tensor, forward: int) -> None:
        super()._pool(layer, inputs, grad, forward)
        # Copies, as the caller may use the memory of its inputs again before the step.
        call = LayerCall(inputs.clone(), grad.detach().clone())
        self._calls[layer.name].setdefault((forward, *grad.shape[:1]), []).append(call)

    def _decompose(
        self, layer: PreconditionedLayer, factors: tuple[Factor, Factor], output_scale: float
    ) -> bool:
        input_basis, output_basis = (eigenbasis(factor) for factor in factors)
        if input_basis is None or output_basis is None:
            return False
        forwards = list(self._calls[layer.name].values())
        sums = second_moments(layer.module, forwards, input_basis, output_basis)
        moments = [output_scale * sum_over_ranks(each) for each in sums]
        if not all(bool(each.isfinite().all()) for each in moments):
            return False
        self._preconditioners[layer.name] = [input_basis, output_basis, *moments]
        return True

    def _precondition(self) -> None:
        for name, parts in self._preconditioners.items():
            layer = self._layers[name]
            input_basis, output_basis, weight_moments, bias_moments = parts
            groups, d_out = output_basis.shape[:2]
            if (grad := layer.module.weight.grad) is None:
                continue
            matrices = grad.reshape(groups, d_out, -1).to(input_basis.dtype)
            new = rescale(matrices, weight_moments, input_basis, output_basis, self.damping)
            grad.copy_(new.reshape(grad.shape))
            if layer.moving_bias is not None:
                bias_grad = layer.moving_bias.grad
                assert bias_grad is not None
                columns = bias_grad.reshape(groups, d_out, 1).to(input_basis.dtype)
                one = torch.ones_like(columns[:, :1])
                moments = bias_moments.unsqueeze(-1)
                new = rescale(columns, moments, one, output_basis, self.damping)
                bias_grad.copy_(new.reshape(-1))

    def _forget_step(self) -> None:
        super()._forget_step()
        self._calls.clear()


class EKFAC(KFAC):
    """EKFAC, then clipping, then SGD.

    The arguments are those of ``KFAC``; ``damping`` is added to each second moment, unsplit.

    Example:
        >>> model = nn.Linear(3, 2)
        >>> optimizer = EKFAC(model, lr=0.1)
        >>> logits = model(torch.ones(4, 3))
        >>> optimizer.observe(logits)
        >>> nn.functional.cross_entropy(logits, torch.tensor([0, 1, 1, 0])).backward()
        >>> optimizer.step()
        >>> optimizer.close()
    """

    transform_class = EKFACPreconditioner
