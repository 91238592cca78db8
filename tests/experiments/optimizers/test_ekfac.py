"""EKFAC against references of per-example gradients by autograd, exact cases and limits."""

import copy
import logging
import unittest

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.optimizers import eigenbasis, ekfac, kfac_preconditioner
from experiments.optimizers.ekfac import EKFAC, EKFACPreconditioner
from tests.support.kfac_problems import (
    TiedGPT,
    backward,
    conv_net,
    grads,
    images,
    mlp,
    tokens,
    true_labels,
    vectors,
)

DAMPING = 1e-2
CASES = {"mlp": (mlp, vectors), "conv": (conv_net, images), "tied_gpt": (TiedGPT, tokens)}


class Twice(nn.Module):
    """One layer on both halves of every example."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 4).double()

    def forward(self, rows: Tensor) -> Tensor:
        return self.layer(rows[:, :3]) + (2 * self.layer(rows[:, 3:])).tanh()


def factors_of(model: nn.Module, layer: nn.Module, batch: tuple[Tensor, Tensor]):
    """A and B from torch's own unfold and autograd."""
    kept: list[tuple[Tensor, Tensor]] = []
    hook = layer.register_forward_hook(lambda module, args, out: kept.append((args[0], out)))
    logits = model(batch[0]).flatten(0, -2)
    hook.remove()
    summed = F.cross_entropy(logits, batch[1].flatten(), reduction="sum")
    outs = torch.autograd.grad(summed, [out for _, out in kept])
    if isinstance(layer, nn.Conv2d):
        shape = {"padding": layer.padding, "stride": layer.stride}
        rows = [F.unfold(x, layer.kernel_size, **shape).mT.flatten(0, 1) for x, _ in kept]
        outs = [out.flatten(2).mT for out in outs]
    else:
        rows = [x.flatten(0, -2) for x, _ in kept]
    inputs = torch.cat(rows).detach()
    gradients = torch.cat([out.flatten(0, -2) for out in outs])
    return inputs.T @ inputs / len(inputs), gradients.T @ gradients / len(logits)


def reference(
    model: nn.Module, layer: nn.Module, batch: tuple[Tensor, Tensor], damping: float = DAMPING
) -> list[Tensor]:
    """Preconditioned weight and bias gradients of one layer, by a loop over the examples."""
    params = [p for p in (layer.weight, layer.bias) if p is not None]
    a, b = factors_of(model, layer, batch)
    bases = [torch.linalg.eigh(b)[1], torch.linalg.eigh(a)[1]]
    moments = [0.0 for _ in params]
    rows = batch[1].numel()
    total = [torch.zeros_like(p) for p in params]
    for x, y in zip(*batch, strict=True):
        logits = model(x[None]).flatten(0, -2)
        loss = F.cross_entropy(logits, y[None].flatten(), reduction="sum")
        for i, grad in enumerate(torch.autograd.grad(loss, params)):
            inside = bases[0].T @ grad.flatten(1 - i)
            moments[i] = moments[i] + (inside if i else inside @ bases[1]).square() / rows
            total[i] += grad / rows
    weight = bases[0].T @ total[0].flatten(1) @ bases[1] / (moments[0] + damping)
    result = [(bases[0] @ weight @ bases[1].T).view_as(layer.weight)]
    if len(params) == 2:
        result.append(bases[0] @ (bases[0].T @ total[1] / (moments[1] + damping)))
    return result


@pytest.mark.parametrize("size", [3, 40])  # fewer and more rows than some factors have columns
@pytest.mark.parametrize("case", CASES)
def test_follows_the_loop_over_examples(case, size):
    make, draw = CASES[case]
    model, batch = make(), draw(size)
    transform = EKFACPreconditioner(model, fisher="empirical", damping=DAMPING)
    assert transform._layers
    expected = {}
    for name in transform._layers:
        layer = model.get_submodule(name.removesuffix(".weight"))
        expected[name] = reference(model, layer, batch)
    transform._forget_step()
    model.zero_grad()
    backward(model, transform, batch)
    transform.update()
    for name, parts in expected.items():
        layer = model.get_submodule(name.removesuffix(".weight"))
        found = [p.grad for p in (layer.weight, layer.bias) if p is not None]
        for ours, theirs in zip(found, parts, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10, msg=name)


def test_calls_of_a_forward_pass_are_summed_before_the_square():
    model, batch = Twice(), vectors(8)
    transform = EKFACPreconditioner(model, fisher="empirical", damping=DAMPING)
    expected = reference(model, model.layer, batch)
    transform._forget_step()
    model.zero_grad()
    backward(model, transform, batch)
    transform.update()
    torch.testing.assert_close(model.layer.weight.grad, expected[0], rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(model.layer.bias.grad, expected[1], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("fisher", ["mc", "empirical"])
@pytest.mark.parametrize("case", ["mlp", "conv"])
def test_micro_batches_are_other_examples(case, fisher, together, monkeypatch):
    make, draw = CASES[case]
    inputs, labels = draw(8)
    whole, model = make(), make()
    true_labels(monkeypatch, labels)
    transform = EKFACPreconditioner(whole, fisher=fisher)
    backward(whole, transform, (inputs, labels))
    transform.update()
    transform = EKFACPreconditioner(model, fisher=fisher)
    losses = []
    for part in (slice(0, 4), slice(4, 8)):
        true_labels(monkeypatch, labels[part])
        if together:  # one backward pass after both forward passes
            logits = model(inputs[part])
            transform.observe(logits)
            losses.append(F.cross_entropy(logits, labels[part]) / 2)
        else:
            backward(model, transform, (inputs[part], labels[part]), parts=2)
    if together:
        sum(losses).backward()
    transform.update()
    for name, grad in grads(whole).items():
        torch.testing.assert_close(model.get_parameter(name).grad, grad, msg=name)


def test_chunks_of_examples_change_nothing(monkeypatch):
    results = []
    for elements in (2**24, 1):
        monkeypatch.setattr(eigenbasis, "PATCH_ELEMENTS", elements)
        model = conv_net()
        transform = EKFACPreconditioner(model, fisher="empirical")
        backward(model, transform, images(6))
        transform.update()
        results.append(grads(model))
    for name, grad in results[0].items():
        torch.testing.assert_close(grad, results[1][name], msg=name)


@pytest.mark.parametrize("fisher", ["mc", "empirical"])
def test_rows_and_matrices_are_one_method(fisher, monkeypatch):
    results = []
    batch = images(3)
    true_labels(monkeypatch, batch[1])
    for keeps_rows in (True, False):
        model = conv_net()
        transform = EKFACPreconditioner(model, fisher=fisher)
        transform._pools._keeps_rows = keeps_rows
        backward(model, transform, batch)
        transform.update()
        results.append(grads(model))
    for name, grad in results[0].items():
        torch.testing.assert_close(grad, results[1][name], rtol=1e-8, atol=1e-10, msg=name)


def regression(rows: Tensor, gradients: Tensor, monkeypatch: pytest.MonkeyPatch):
    """A linear layer on rows whose sampled gradients are given."""
    torch.manual_seed(0)
    model = nn.Linear(rows.shape[1], gradients.shape[1], bias=False).double()
    monkeypatch.setattr(kfac_preconditioner, "sampled_gradient", lambda logits, *_: gradients)
    transform = EKFACPreconditioner(model, damping=DAMPING)
    backward(model, transform, (rows, torch.zeros(len(rows), dtype=torch.int64)))
    raw = model.weight.grad.clone()
    transform.update()
    return model.weight.grad, raw


def test_a_fisher_matrix_that_is_a_kronecker_product_is_inverted_exactly(monkeypatch):
    # Every input with every gradient: E[a a^T x g g^T] = E[a a^T] x E[g g^T].
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    g = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    rows, gradients = a.repeat_interleave(5, 0), g.repeat(4, 1)
    each = torch.einsum("no,ni->noi", gradients, rows).flatten(1)
    fisher = each.T @ each / len(each)
    found, raw = regression(rows, gradients, monkeypatch)
    expected = torch.linalg.solve(fisher + DAMPING * torch.eye(6).double(), raw.flatten())
    torch.testing.assert_close(found.flatten(), expected)


def test_products_of_eigenvalues_in_place_of_the_moments_are_kfac(monkeypatch):
    """K-FAC with the same unsplit damping: (B x A + lambda I)^-1."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    gradients = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    a, b = rows.T @ rows / 9, gradients.T @ gradients / 9
    real, _ = regression(rows, gradients, monkeypatch)

    def products(layer, forwards, input_basis, output_basis):
        first = (input_basis.mT @ a @ input_basis).diagonal(dim1=-2, dim2=-1)
        second = (output_basis.mT @ b @ output_basis).diagonal(dim1=-2, dim2=-1)
        return 9 * second.unsqueeze(-1) * first.unsqueeze(-2), second

    monkeypatch.setattr(ekfac, "second_moments", products)
    found, raw = regression(rows, gradients, monkeypatch)
    expected = torch.linalg.solve(
        torch.kron(b, a) + DAMPING * torch.eye(12).double(), raw.flatten()
    )
    torch.testing.assert_close(found.flatten(), expected)
    assert not torch.allclose(found, real, rtol=1e-2)


def test_moments_are_nearer_to_the_fisher_matrix_than_the_products(monkeypatch):
    """Theorem 2 of the paper: in the basis, the diagonal is the best in Frobenius norm."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(30, 3, generator=generator, dtype=torch.float64)
    gradients = rows[:, :2] * torch.randn(30, 2, generator=generator, dtype=torch.float64)
    each = torch.einsum("no,ni->noi", gradients, rows).flatten(1)
    fisher = each.T @ each / 30
    a, b = rows.T @ rows / 30, gradients.T @ gradients / 30
    columns = []
    for unit in torch.eye(6, dtype=torch.float64):
        torch.manual_seed(0)
        model = nn.Linear(3, 2, bias=False).double()
        monkeypatch.setattr(kfac_preconditioner, "sampled_gradient", lambda logits, *_: gradients)
        transform = EKFACPreconditioner(model, damping=DAMPING)
        backward(model, transform, (rows, torch.zeros(30, dtype=torch.int64)))
        model.weight.grad.copy_(unit.view(2, 3))
        transform.update()
        columns.append(model.weight.grad.flatten().clone())
    approximation = torch.linalg.inv(torch.stack(columns)) - DAMPING * torch.eye(6).double()
    distance = (fisher - approximation).norm()
    assert distance < 0.99 * (fisher - torch.kron(b, a)).norm()


def test_rank_deficient_and_repeated_eigenvalues():
    model = nn.Linear(6, 4).double()
    for rows in (torch.ones(8, 6).double(), torch.eye(6).double(), torch.zeros(8, 6).double()):
        batch = rows, torch.arange(len(rows)) % 4
        transform = EKFACPreconditioner(model, fisher="empirical", damping=DAMPING)
        expected = reference(model, model, batch)
        transform._forget_step()
        model.zero_grad()
        backward(model, transform, batch)
        transform.update()
        torch.testing.assert_close(model.weight.grad, expected[0], rtol=1e-7, atol=1e-9)
        transform.close()


def test_failed_decomposition_is_tried_in_float64_then_kept_counted_and_logged(monkeypatch):
    model = mlp().float()
    transform = EKFACPreconditioner(model, interval=1)
    inputs, labels = vectors(16)
    batch = inputs.float(), labels
    backward(model, transform, batch)
    transform.update()
    stored = copy.deepcopy(transform.state_dict()["preconditioners"])
    tried = []

    def failing(matrices: Tensor) -> tuple[Tensor, Tensor]:
        tried.append(matrices.dtype)
        raise torch.linalg.LinAlgError("did not converge")

    monkeypatch.setattr(torch.linalg, "eigh", failing)
    with unittest.TestCase().assertLogs(level=logging.WARNING) as logs:
        backward(model, transform, batch)
        transform.update()
    assert tried[:2] == [torch.float32, torch.float64]
    assert transform.skipped_refreshes == 3
    (message,) = logs.output
    assert "EKFAC, step 1" in message
    assert "0.weight, 2.weight, 4.weight" in message
    for name, parts in transform.state_dict()["preconditioners"].items():
        assert all(torch.equal(a, b) for a, b in zip(parts, stored[name], strict=True))


def test_nothing_of_a_step_is_kept_after_it():
    model = conv_net()
    optimizer = EKFAC(model, lr=0.1)
    backward(model, optimizer, images(4))
    assert optimizer.transform._calls
    optimizer.step()
    assert not optimizer.transform._calls
    backward(model, optimizer, images(4))
    assert not optimizer.transform._calls  # hooks rest between refreshes
