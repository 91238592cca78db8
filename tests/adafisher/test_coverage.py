"""The share by elements, the reasons, and what is said of them."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from adafisher import AdaFisher
from adafisher.reasons import REASONS


class Everything(nn.Module):
    """One of each that takes the identity, beside a linear layer of 6 elements."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.table = nn.Embedding(5, 2)
        self.lstm = nn.LSTM(2, 2)
        self.bilinear = nn.Bilinear(2, 2, 2)
        self.attention = nn.MultiheadAttention(4, 2, kdim=3)
        self.parametrised = parametrizations.weight_norm(nn.Linear(2, 2, bias=False))
        self.spectral = nn.utils.spectral_norm(nn.Linear(2, 2, bias=False))
        self.router = Router()
        self.experts = nn.Parameter(torch.ones(3, 2, 2))
        self.class_token = nn.Parameter(torch.ones(1, 1, 2))


class Router(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 2))


@pytest.mark.filterwarnings("ignore:.*in no supported layer")
def test_every_reason() -> None:
    coverage = AdaFisher(Everything()).coverage()
    assert set(coverage.reasons) == set(coverage.identity)
    assert set(coverage.reasons.values()) == set(REASONS)
    of = {
        "table.weight": "embedding",
        "lstm.weight_ih_l0": "recurrent layer",
        "bilinear.weight": "bilinear layer",
        "attention.q_proj_weight": "attention with keys or values of a width of their own",
        "parametrised.parametrizations.weight.original1": "parametrised weight",
        "spectral.weight_orig": "parametrised weight",
        "router.weight": "layer of an unknown form",
        "experts": "stack of matrices",
        "class_token": "free parameter",
    }
    assert {name: coverage.reasons[name] for name in of} == of


class Small(nn.Module):
    """6 elements of a layer, 2 free ones, 10 of an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.linear = nn.Embedding(5, 2), nn.Linear(2, 2)
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.linear(self.table(x)) * self.scale
        return output


def test_share_and_summary_leave_embeddings_apart() -> None:
    with pytest.warns(UserWarning, match="in no supported layer") as caught:
        coverage = AdaFisher(Small()).coverage()
    assert coverage.share == 0.75
    assert coverage.embeddings == ("table.weight",)
    assert coverage.summary().splitlines() == [
        "curvature: 75.0 % of 8 elements, and none of the 10 of embeddings",
        "plain momentum: free parameter 2",
        "steps without an estimate: 0, dropped estimates: 0, weights read elsewhere too: 0",
    ]
    assert str(caught[0].message) == (
        "AdaFisher: 2 of 4 trainable parameters are in no supported layer and take plain momentum "
        "(curvature 1), 66.7 % of the elements; free parameter: scale; embedding "
        "(embeddings=True gives curvature): table.weight"
    )


def test_summary_with_embeddings_and_without_identity() -> None:
    model = nn.Sequential(nn.Embedding(5, 2), nn.Linear(2, 2))
    coverage = AdaFisher(model, embeddings=True).coverage()
    assert coverage.share == 1.0
    assert coverage.summary().splitlines()[:2] == [
        "curvature: 100.0 % of 6 elements, and all of the 10 of embeddings",
        "plain momentum: none",
    ]


def test_a_table_that_is_the_head_too_is_not_counted_apart() -> None:
    model = nn.Sequential(nn.Embedding(5, 2), nn.Linear(2, 5, bias=False))
    model[1].weight = model[0].weight  # type: ignore[assignment, union-attr]
    coverage = AdaFisher(model).coverage()
    assert (coverage.embeddings, coverage.share, coverage.elements) == ((), 1.0, {"0.weight": 10})


def test_a_long_list_is_cut_short() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LSTM(2, 2, num_layers=3))
    with pytest.warns(UserWarning, match=r"12 of 14 .*: 1\.weight_ih_l0, .* and 4 more$"):
        AdaFisher(model)
