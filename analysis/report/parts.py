"""In which order a page shows the tables and figures: that in which a reader asks.

A table or figure that is not named here, as one of your own, comes after those that are.
"""

from __future__ import annotations

from collections.abc import Iterable

FIRST = ("tables/results", "figures/test_metric_vs_epoch", "figures/quality_vs_cost")
"""On the first screen."""

PARTS: dict[str, tuple[str, ...]] = {
    "result": (
        "tables/comparison",
        "figures/final_by_seed",
        "tables/variants",
        "figures/improvement_over_tasks",
        "tables/paired_difference",
        "tables/improvement_probability",
        "tables/aggregate_score",
        "tables/speed_up",
        "figures/performance_profile",
        "tables/coverage",
    ),
    "curves": (
        "figures/test_metric_vs_train_seconds",
        "figures/test_metric_vs_step",
        "figures/train_loss_vs_epoch",
        "figures/train_loss_vs_train_seconds",
        "figures/train_loss_vs_step",
    ),
    "cost": ("tables/cost", "figures/cost_per_method"),
    "sensitivity": (
        "figures/validation_vs_learning_rate",
        "figures/test_metric_vs_learning_rate",
        "figures/test_metric_vs_batch_size",
    ),
    "tuning": ("figures/expected_best", "tables/tuning_effort"),
    "curvature": (
        "tables/damping_share",
        "figures/damping_share",
        "figures/curvature_spread",
        "figures/fisher_histograms",
        "figures/kronecker_factors",
        "figures/gershgorin_discs",
        "figures/eigenvalue_spectra",
        "figures/factor_fft",
        "figures/loss_landscape",
        "figures/loss_scale",
    ),
    "controls": ("figures/scalar_control", "tables/scalar_control"),
    "further": (),
    "published": (
        "tables/published_vs_reproduced",
        "tables/table2_from_scratch",
        "tables/table3_imagenet",
        "tables/table4_transfer",
        "tables/table5_language",
        "tables/table6_gpus",
        "figures/scaling_over_gpus",
        "tables/table8_budgets",
        "tables/table9_learning_rates",
        "tables/published_fidelity",
    ),
}
"""The others; a part without anything to show is left out, and after them come the runs."""


def parts_of(names: Iterable[str]) -> dict[str, list[str]]:
    """Put names of tables and figures, as ``figures/NAME``, into the parts and their order."""
    given = list(names)
    known = {name for part in PARTS.values() for name in part} | set(FIRST)
    found = {part: [name for name in of if name in given] for part, of in PARTS.items()}
    found["further"] = [name for name in given if name not in known]
    return found
