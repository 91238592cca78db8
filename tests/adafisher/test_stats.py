"""``curvature_stats`` against the curvature of the dense reference."""

import math

import pytest
import torch
from torch import nn

from adafisher import AdaFisher, stats
from adafisher.stats import Spread
from tests.support.cases import BY_ID, Case, loss_of
from tests.support.side_by_side import SideBySide

MLP = BY_ID["mlp_inplace_relu"]
DAMPING = 1e-2


def by_sorting(ratios: torch.Tensor) -> list[float]:
    """Least, 1 %, median, 99 %, largest: the least value that so many are not above."""
    values = ratios.sort().values
    places = [math.ceil(level * len(values)) - 1 for level in (0.01, 0.5, 0.99)]
    return [float(values[i]) for i in (0, *(max(0, place) for place in places), -1)]


@pytest.fixture(
    scope="module",
    params=["mlp_inplace_relu", "conv_grouped", "conv_transpose", "tied_linear", "mixed_tokens"],
)
def side(request: pytest.FixtureRequest) -> SideBySide:
    """A case trained beside the reference under another damping than the default."""
    trained = SideBySide(BY_ID[request.param], damping=DAMPING)
    first = next(iter(trained.model.parameters()))
    assert trained.optimizer.fisher_diag(first) is None
    trained.train(range(3))
    return trained


def test_spread_is_that_of_the_reference(side: SideBySide) -> None:
    ratios, steps = [], []
    for param in side.reference_model.parameters():
        blocks = side.reference.curvatures(param)
        fisher = sum(blocks, torch.zeros_like(param)) / len(blocks) + DAMPING
        ratios.append(fisher.detach().flatten() / DAMPING)
        steps.append(1e-3 / fisher.detach().flatten())
    overall = side.optimizer.curvature_stats().overall
    assert list(overall[:5]) == pytest.approx(by_sorting(torch.cat(ratios)), rel=1e-9)
    assert overall.effective_lr == pytest.approx(float(torch.cat(steps).mean()), rel=1e-9)
    assert overall.damping_share == pytest.approx(float((1 / torch.cat(ratios)).mean()), rel=1e-9)
    assert overall.entries == sum(p.numel() for p in side.model.parameters())
    assert 1.0 <= overall.min <= overall.median <= overall.max <= 1.0 + 1.0 / DAMPING + 1e-9


def test_fisher_diag_is_that_of_the_reference(side: SideBySide) -> None:
    pairs = zip(side.model.parameters(), side.reference_model.parameters(), strict=True)
    for param, twin in pairs:
        blocks = side.reference.curvatures(twin)
        wanted = sum(blocks, torch.zeros_like(twin)) / len(blocks) + DAMPING
        found = side.optimizer.fisher_diag(param)
        torch.testing.assert_close(found, wanted.detach(), rtol=1e-9, atol=1e-12)
    with pytest.raises(KeyError, match="no parameter of this optimizer"):
        side.optimizer.fisher_diag(torch.zeros(3))


def test_layers_have_their_own_groups_and_a_shared_weight_counts_once() -> None:
    side = SideBySide(MLP)
    side.optimizer.close()
    head = {"params": side.model[2].parameters(), "lr": 0.5, "damping": 1e9}
    optimizer = AdaFisher(
        side.model, params=[{"params": side.model[0].parameters(), "lr": 0.0}, head]
    )
    loss_of(side.model(MLP.batch(0)), 0).backward()
    optimizer.step()
    layers = optimizer.curvature_stats().layers
    assert list(layers) == ["0", "2"]
    assert layers["0"].effective_lr == 0.0
    assert layers["2"].effective_lr == pytest.approx(0.5e-9)
    assert layers["2"].max == pytest.approx(1.0)
    assert layers["2"].damping_share == pytest.approx(1.0)  # such a damping leaves no curvature
    assert 0.0 < layers["0"].damping_share < 1.0
    tied = SideBySide(BY_ID["tied_linear"])
    tied.train(range(1))
    found = tied.optimizer.curvature_stats()
    assert sum(s.entries for s in found.layers.values()) == found.overall.entries + 16


def test_before_the_first_estimate_there_is_nothing_and_it_changes_nothing() -> None:
    side = SideBySide(MLP)
    overall = side.optimizer.curvature_stats().overall
    assert overall.entries == 0
    assert overall.memory_bytes == 0
    assert all(math.isnan(value) for value in overall[:6])
    for index in range(4):
        side.train([index])
        side.optimizer.curvature_stats()


def test_dropped_estimates_and_memory() -> None:
    side = SideBySide(MLP)
    side.train(range(2))
    before = side.optimizer.curvature_stats().overall
    # Of each layer two averages and their normalised form, in float64.
    assert before.memory_bytes == 2 * 8 * ((5 + 6) + (7 + 3))
    for capture_layer in side.optimizer._curvature.capture.layers.values():
        capture_layer.dropped += 2
    found = side.optimizer.curvature_stats()
    assert found.overall.dropped == 4
    assert found.layers["0"].dropped == 2
    side.backward(5)
    assert side.optimizer.curvature_stats().overall.memory_bytes > before.memory_bytes


def test_large_parameters_are_sampled_but_for_the_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("wide", lambda: nn.Linear(90, 70, bias=False), (8, 90))
    side = SideBySide(case)
    side.optimizer.step()
    side.train(range(1))
    whole = side.optimizer.curvature_stats().overall
    monkeypatch.setattr(stats, "_SAMPLE", 1000)
    sampled = side.optimizer.curvature_stats().overall
    exact = [field for field in Spread._fields if "percentile" not in field and field != "median"]
    for field in exact:
        assert getattr(sampled, field) == getattr(whole, field)
    assert sampled.median == pytest.approx(whole.median, rel=0.2)
    assert sampled.median != whole.median
