"""The library's SOAP against the published algorithm, written out for matrices."""

import pytest
import pytorch_optimizer
import torch
from torch import Tensor

LR, BETA, EPS, DECAY = 0.01, 0.9, 1e-8, 0.1


class Reference:
    """SOAP for one matrix: Vyas et al., 2024, arXiv 2409.11321, Algorithms 3 and 4.

    With the start of the authors' code: the first gradient makes the eigenbases and no step.
    """

    def __init__(self, weight: Tensor, interval: int) -> None:
        self.weight, self.interval, self.step = weight.clone(), interval, -1
        self.mean, self.square = torch.zeros_like(weight), torch.zeros_like(weight)
        self.left = torch.zeros(len(weight), len(weight), dtype=weight.dtype)
        self.right = torch.zeros(weight.shape[1], weight.shape[1], dtype=weight.dtype)

    def update(self, grad: Tensor) -> None:
        self.step += 1
        if self.step == 0:
            self._accumulate(grad)
            # The largest eigenvalue first, as the power iteration sorts them.
            self.q_left = torch.linalg.eigh(self.left).eigenvectors.flip(1)
            self.q_right = torch.linalg.eigh(self.right).eigenvectors.flip(1)
            return
        self.mean = BETA * self.mean + (1 - BETA) * grad
        rotated = self.q_left.T @ grad @ self.q_right
        self.square = BETA * self.square + (1 - BETA) * rotated**2
        direction = self.q_left.T @ self.mean @ self.q_right / (self.square.sqrt() + EPS)
        correction = (1 - BETA**self.step) ** 0.5 / (1 - BETA**self.step)
        self.weight = self.weight - LR * correction * self.q_left @ direction @ self.q_right.T
        self.weight = self.weight - LR * DECAY * self.weight
        self._accumulate(grad)
        if self.step % self.interval == 0:
            self.q_left = self._refreshed(self.left, self.q_left, axis=0)
            self.q_right = self._refreshed(self.right, self.q_right, axis=1)

    def _accumulate(self, grad: Tensor) -> None:
        self.left = BETA * self.left + (1 - BETA) * grad @ grad.T
        self.right = BETA * self.right + (1 - BETA) * grad.T @ grad

    def _refreshed(self, statistic: Tensor, basis: Tensor, axis: int) -> Tensor:
        """One round of orthogonal iteration; Algorithm 4."""
        order = (basis.T @ statistic @ basis).diagonal().argsort(descending=True)
        self.square = self.square.index_select(axis, order)
        return torch.linalg.qr(statistic @ basis[:, order]).Q


class OneSided(Reference):
    """Without a basis of the rows: the eigenvectors of the identity are the axes themselves."""

    def _accumulate(self, grad: Tensor) -> None:
        super()._accumulate(grad)
        self.left = torch.eye(len(grad), dtype=grad.dtype)


@pytest.mark.parametrize(
    ("kind", "limit"), [(Reference, 10_000), (Reference, 5), (OneSided, 4)], ids=str
)
@pytest.mark.parametrize("interval", [1, 3])
def test_every_step_is_the_published_one(interval: int, kind: type[Reference], limit: int) -> None:
    """Also where the axis of five is longer than the limit, and has no basis."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    param = torch.nn.Parameter(weight.clone())
    optimizer = pytorch_optimizer.SOAP(
        [param],
        lr=LR,
        betas=(BETA, BETA),
        weight_decay=DECAY,
        precondition_frequency=interval,
        max_precondition_dim=limit,
        eps=EPS,
    )
    reference = kind(weight, interval)
    scale = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    for _ in range(12):
        grad = scale * torch.randn(5, 4, generator=generator, dtype=torch.float64)
        param.grad = grad.clone()
        optimizer.step()
        reference.update(grad)
        # The library takes its QR decomposition in float32.
        torch.testing.assert_close(param.detach(), reference.weight, rtol=1e-5, atol=1e-6)


def test_the_first_step_moves_nothing_and_the_second_does() -> None:
    param = torch.nn.Parameter(torch.ones(3, 2))
    optimizer = pytorch_optimizer.SOAP([param])
    for step in range(2):
        param.grad = torch.randn(3, 2)
        optimizer.step()
        assert torch.equal(param, torch.ones(3, 2)) == (step == 0)
