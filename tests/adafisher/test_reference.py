"""The page that prints the method, held to the package after every step."""

import copy

import pytest
import torch
from torch import nn

from adafisher import AdaFisherW, reference


def nets() -> dict[str, nn.Module]:
    return {
        "linear": nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)),
        "tokens": nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Flatten(0, 1), nn.Linear(7, 3)),
        "conv": nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(36, 3)
        ),
        "dilated": nn.Sequential(
            nn.Conv2d(2, 4, 2, dilation=2), nn.Tanh(), nn.Flatten(), nn.Linear(36, 3)
        ),
    }


SHAPES = {"linear": (6, 5), "tokens": (6, 4, 5), "conv": (6, 2, 5, 5), "dilated": (6, 2, 5, 5)}


@pytest.mark.parametrize("name", SHAPES)
def test_the_package_takes_the_steps_of_the_page(name: str) -> None:
    torch.manual_seed(0)
    ours = nets()[name].double()
    theirs = copy.deepcopy(ours)
    optimizer = AdaFisherW(
        ours,
        lr=reference.ETA,
        beta=reference.BETA,
        damping=reference.LAMBDA,
        weight_decay=reference.KAPPA,
        gammas=(reference.GAMMA_1, reference.GAMMA_2),
    )
    page = reference.Reference(theirs)
    for _ in range(8):
        x = torch.randn(*SHAPES[name], dtype=torch.float64)
        target = torch.randint(3, (ours(x).shape[0],))
        before = [param.detach().clone() for param in theirs.parameters()]
        for model, stepper in ((ours, optimizer), (theirs, page)):
            model.zero_grad()
            nn.functional.cross_entropy(model(x), target).backward()
            stepper.step()
        for old, mine, its in zip(before, ours.parameters(), theirs.parameters(), strict=True):
            assert not torch.equal(old, its)
            torch.testing.assert_close(mine, its, rtol=0, atol=1e-12)


def test_the_defaults_are_those_of_the_page() -> None:
    defaults = AdaFisherW(nn.Linear(2, 2)).defaults
    page = (reference.ETA, reference.BETA, reference.LAMBDA, reference.KAPPA)
    assert tuple(defaults[name] for name in ("lr", "beta", "damping", "weight_decay")) == page


def test_it_fits_a_page() -> None:
    with open(reference.__file__, encoding="utf-8") as page:
        assert len(page.readlines()) <= 60
