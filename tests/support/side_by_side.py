"""Runs AdaFisher and the float64 reference on equal models, and compares all parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from adafisher import AdaFisher, AdaFisherW
from adafisher.layers.layer import Layer
from tests.support.cases import Case, loss_of
from tests.support.reference import ReferenceAdaFisher

TOLERANCE = 1e-9


class SideBySide:
    """An optimizer under test and its reference; everything is done to both."""

    def __init__(self, case: Case, *, decoupled: bool = False, **options: Any) -> None:
        self.case = case
        self.model, self.reference_model = case.model(), case.reference_model()
        if case.embeddings:
            options["embeddings"] = True
        optimizer = AdaFisherW if decoupled else AdaFisher
        self.optimizer = optimizer(self.model, **options)
        options.pop("params", None)
        self.reference = ReferenceAdaFisher(self.reference_model, decoupled=decoupled, **options)

    def models(self) -> tuple[nn.Module, nn.Module]:
        return self.model, self.reference_model

    def both(self, change: Callable[[nn.Module], Any]) -> None:
        for model in self.models():
            change(model)

    def backward(self, index: int, rows: slice = slice(None), scale: float = 1.0) -> None:
        for model in self.models():
            loss: Tensor = loss_of(model(self.case.batch(index)[rows]), index) * scale
            loss.backward()

    def step(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.reference.step()
        self.reference_model.zero_grad()

    def train(self, indices: Iterable[int]) -> None:
        """Train, comparing after every step."""
        for index in indices:
            self.backward(index)
            self.step()
            self.compare()

    def compare(self, tolerance: float = TOLERANCE) -> None:
        pairs = zip(
            self.model.named_parameters(), self.reference_model.named_parameters(), strict=True
        )
        for (name, ours), (_, theirs) in pairs:
            torch.testing.assert_close(
                ours,
                theirs,
                rtol=0,
                atol=tolerance,
                msg=lambda text, name=name: f"{name} after {self.reference.count} steps: {text}",
            )


def estimate(layer: Layer) -> tuple[Tensor, Tensor]:
    """The factors of a layer's pooled rows."""
    activation_sum, grad_sum, rows = layer.sums()
    return activation_sum / rows, grad_sum / rows
