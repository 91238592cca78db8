"""The figures drawn from studies, on arrays written by hand."""

import hashlib
import importlib
import io
import json
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.panels import note_of
from analysis.results.load import Results, load_results
from analysis.style import KNOWN

FACTOR_FIGURES = ("kronecker_factors", "gershgorin_discs", "eigenvalue_spectra", "factor_fft")
STEPS = np.array([5, 10])


def write(runs_dir: Path, name: str, facts: dict[str, Any], arrays: dict[str, Any]) -> Results:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    folder = runs_dir / ".studies" / name / "0123456789ab"
    folder.mkdir(parents=True)
    (folder / "arrays.npz").write_bytes(buffer.getvalue())
    described = {
        "schema": 1,
        "study_id": folder.name,
        "command": f"python -m experiments study study={name}",
        "facts": facts,
        "arrays_sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
        "finished": "2026-01-01",
    }
    (folder / "study.json").write_text(json.dumps(described))
    return load_results(runs_dir)


def build(name: str, results: Results) -> Figure:
    figure: Figure = importlib.import_module(f"analysis.figures.{name}").build(results)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=40)
    file.seek(0)
    assert matplotlib.image.imread(file)[..., :3].std() > 0.05
    return figure


def lines(ax: Axes) -> dict[str, Any]:
    return {str(line.get_label()): line for line in ax.lines}


def kronecker(n: int = 4, **changes: np.ndarray) -> dict[str, Any]:
    """Diagonal factors with the entries n, ..., 1."""
    entries = np.arange(n, 0.0, -1)
    arrays: dict[str, Any] = {"steps": STEPS}
    for factor in ("activation", "grad"):
        one = {
            "centers": entries,
            "radii": np.zeros(n),
            "eigenvalues": entries,
            "eigenvalues_noisy": entries - 1,
            "matrix": np.diag(entries),
            "fft": np.full((n, n), 2.0),
            "fft_noisy": np.full((n, n), 3.0),
            "snr_db": np.array([np.inf, 20.0]),
            "snr_mean_db": np.array([np.inf, 26.02]),
            **changes,
        }
        arrays |= {f"{factor}_{key}": np.stack([value, value]) for key, value in one.items()}
    return arrays


FACTS = {
    "layer": "$conv$1",
    "model": "small_cnn",
    "optimizer": "adafisher",
    "task": "digits",
    "seed": 0,
    "normalization": "max",
    "noise_std": 0.001,
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FACTOR_FIGURES)
def test_a_panel_for_each_factor_and_step(name: str, tmp_path: Path) -> None:
    figure = build(name, write(tmp_path, "kronecker", FACTS, kronecker()))
    titles = [ax.get_label() for ax in figure.axes if ax.get_title()]
    assert len(titles) == (8 if name == "factor_fft" else 4)
    assert titles[0].startswith("H (activations), step 5")
    assert titles[-1].startswith("S (gradients), step 10")
    note = note_of(figure)
    assert "small_cnn, trained by adafisher on digits, seed 0." in note
    assert "divided by its largest diagonal entry" in note


def test_a_diagonal_factor_is_said_to_be_one(tmp_path: Path) -> None:
    results = write(tmp_path, "kronecker", FACTS, kronecker())
    assert "100% on the diagonal" in build("kronecker_factors", results).axes[0].get_label()
    assert "4 of 4 dominant" in build("gershgorin_discs", results).axes[0].get_label()
    first, second = build("factor_fft", results).axes[:2]
    assert "SNR inf dB" in first.get_title()
    assert "SNR 20.00 dB (26.02 dB)" in second.get_label()


def test_the_share_on_the_diagonal_counts_both_sides(tmp_path: Path) -> None:
    """At 0 dB the squares above equal those on the diagonal, and below there are as many again."""
    arrays = kronecker(snr_db=np.array([0.0, 0.0]))
    figure = build("kronecker_factors", write(tmp_path, "kronecker", FACTS, arrays))
    assert "33% on the diagonal" in figure.axes[0].get_label()


def test_discs_have_their_radius_and_are_whole(tmp_path: Path) -> None:
    arrays = kronecker(radii=np.array([1.0, 7.0, 0.5, 0.0]))
    ax = build("gershgorin_discs", write(tmp_path, "kronecker", FACTS, arrays)).axes[0]
    assert "2 of 4 dominant" not in ax.get_label()
    assert "3 of 4 dominant" in ax.get_label()
    (discs,) = ax.collections
    assert discs.get_widths().tolist() == [2.0, 14.0, 1.0, 0.0]  # type: ignore[attr-defined]
    assert ax.get_xlim()[0] < 3 - 7 < 3 + 7 < ax.get_xlim()[1]
    assert ax.get_ylim()[0] < -7 < 7 < ax.get_ylim()[1]


def test_spectra_show_positive_eigenvalues_and_count_the_others(tmp_path: Path) -> None:
    results = write(tmp_path, "kronecker", FACTS, kronecker())
    ax = build("eigenvalue_spectra", results).axes[0]
    drawn = lines(ax)
    assert str(ax.get_label()).endswith("; not positive: with noise 1")
    assert drawn["factor"].get_ydata().tolist() == [4, 3, 2, 1]
    assert drawn["with noise"].get_ydata().tolist() == [3, 2, 1]
    assert drawn["_kaiser"].get_ydata()[0] == 1.0


@pytest.mark.parametrize("name", FACTOR_FIGURES)
def test_a_dead_layer_is_drawn(name: str, tmp_path: Path) -> None:
    zeros, nan = np.zeros(4), np.full(2, np.nan)
    arrays = kronecker(
        centers=zeros,
        eigenvalues=zeros,
        eigenvalues_noisy=zeros,
        matrix=np.zeros((4, 4)),
        fft=np.zeros((4, 4)),
        fft_noisy=np.zeros((4, 4)),
        snr_db=nan,
        snr_mean_db=nan,
    )
    build(name, write(tmp_path, "kronecker", FACTS, arrays))


def landscape() -> tuple[dict[str, Any], dict[str, Any]]:
    grid = np.linspace(-1, 1, 5)
    bowl = grid[:, None] ** 2 + grid**2 + 0.5
    hull = np.where(np.abs(grid[:, None] + grid) < 1.2, 40 * bowl - 10, np.nan)
    arrays: dict[str, Any] = {"slice_surface": bowl, "projection_surface": hull}
    for kind in ("slice", "projection"):
        arrays |= {f"{kind}_w1": grid, f"{kind}_w2": grid}
        for index, method in enumerate(("adam", "my_own")):
            arrays[f"{kind}_path_{method}"] = np.array([[0.2, 0.2], [0.1, 0.1 * index]])
            arrays[f"{kind}_loss_{method}"] = np.array([0.58, 0.51])
    facts = {
        "methods": ["adam", "my_own"],
        "learning_rates": {"adam": 0.001, "my_own": 0.5},
        "start": [0.2, 0.2],
        "steps": 1,
        "held_at": "trained",
    }
    return facts, arrays


@pytest.mark.filterwarnings("error")
def test_the_landscape_has_both_surfaces_and_every_path(tmp_path: Path) -> None:
    facts, arrays = landscape()
    figure = build("loss_landscape", write(tmp_path, "landscape", facts, arrays))
    left, right = figure.axes[:2]
    assert left.get_title() == "exact loss, two weights trained"
    for ax in (left, right):
        drawn = lines(ax)
        adam = drawn["adam (lr 0.001: 0.510, 0.510)"]
        assert adam.get_xydata().tolist() == [[0.2, 0.2], [0.1, 0.0]]
        assert adam.get_color() == KNOWN["adam"].color
        assert "my_own (lr 0.5: 0.510, 0.510)" in drawn
        assert drawn["_start"].get_xydata().tolist() == [[0.2, 0.2]]
    # The bowl times 40 less 10 is 20 to 50 inside the hull, far above the logged 0.58.
    beyond = np.nanmax(arrays["projection_surface"]) - 0.58
    below = 0.51 - np.nanmin(arrays["projection_surface"])
    said = max(beyond, below)
    assert f"by up to {said:.1f} nats" in note_of(figure)


def histograms(values: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
    arrays: dict[str, Any] = {"steps": STEPS}
    for method in ("adafisher", "adam"):
        arrays |= {f"{method}/{layer}": values for layer in ("conv1", "conv2")}
    facts = {
        "methods": ["adafisher", "adam"],
        "layers": ["conv1", "conv2"],
        "damping": {"adafisher": 0.001, "adam": 0.0},
        "model": "small_cnn",
        "task": "digits",
        "seed": 0,
    }
    return facts, arrays


@pytest.mark.filterwarnings("error")
def test_histograms_have_a_row_a_layer_and_a_line_a_step(tmp_path: Path) -> None:
    values = np.stack([np.geomspace(1e-3, 1, 99), np.geomspace(1e-2, 1e-1, 99)])
    figure = build("fisher_histograms", write(tmp_path, "fisher_histograms", *histograms(values)))
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[:2] == ["adafisher, conv1 (99 entries)", "adam, conv1 (99 entries)"]
    assert len(titles) == 4
    ax = figure.axes[0]
    drawn = lines(ax)
    assert drawn["step 5"].get_color() == KNOWN["adafisher"].color
    assert [label.get_text() for label in ax.get_yticklabels()] == ["10", "5"]
    assert ax.texts[0].get_text() == f"{(1e-1 / 1e-2) ** 0.98:.3g}×"  # 1st to 99th percentile


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("values", [np.zeros((2, 5)), np.full((2, 5), 0.001)])
def test_a_diagonal_without_spread_is_drawn(values: np.ndarray, tmp_path: Path) -> None:
    build("fisher_histograms", write(tmp_path, "fisher_histograms", *histograms(values)))


def loss_scales() -> tuple[dict[str, Any], dict[str, Any]]:
    """Two methods, two seeds, three epochs; the scale halves the loss of the second."""
    epochs = np.array([1.0, 0.5, 0.25])
    arrays: dict[str, Any] = {}
    for method, factor in (("adam", 1.0), ("adahessian", 0.5)):
        without = np.stack([epochs, 3 * epochs])
        arrays[f"{method}/train_loss"] = np.stack([factor * without, without])
        arrays[f"{method}/first_step"] = np.array([[factor, factor], [1.0, 2.0]])
        arrays[f"{method}/distance"] = np.full((2, 3), 1 - factor)
    facts = {
        "methods": ["adam", "adahessian"],
        "seeds": [0, 1],
        "loss_scale": 65536.0,
        "learning_rates": {"adam": 0.001, "adahessian": 0.15},
        "model": "small_cnn",
        "task": "digits",
    }
    return facts, arrays


@pytest.mark.filterwarnings("error")
def test_both_losses_of_a_method_and_the_distance_of_its_runs(tmp_path: Path) -> None:
    figure = build("loss_scale", write(tmp_path, "loss_scale", *loss_scales()))
    adam, adahessian, same, apart = figure.axes
    assert adam.get_title() == "adam (lr 0.001)"
    drawn = lines(adahessian)
    assert drawn["with the scale"].get_ydata().tolist() == [1.0, 0.5, 0.25]
    assert drawn["without it"].get_ydata().tolist() == [2.0, 1.0, 0.5]
    assert "mean over seeds: adam 1 and 1.5; adahessian 0.5 and 1.5." in note_of(figure)
    assert " ".join(same.texts[0].get_text().split()) == "the same weights, bit for bit"
    assert lines(apart)["distance"].get_ydata().tolist() == [0.5, 0.5, 0.5]
    assert "multiplied by 65536" in note_of(figure)
