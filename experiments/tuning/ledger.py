"""What a study leaves: the effort behind the best trial, and the ledger of all trials as data.

The ledger of ``conf/tuned/<task>/<name>.yaml`` is ``conf/tuned/<task>/ledgers/<name>.yaml``, where
Hydra looks for no configuration: a run records the effort, and not every trial behind it.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from experiments.config import budget, identity
from experiments.config.run_config import RunConfig
from experiments.records.schema import FAULTS
from experiments.tuning import space as spaces
from experiments.tuning.options import TuneOptions
from experiments.tuning.space import Space
from experiments.tuning.trial_scores import SCORES, Trial, choose

VERSION = 1
"""Of the ledger; ``analysis`` reads this one alone."""

_WITHOUT_END = (*FAULTS, "pruned")


def effort(
    config: RunConfig,
    trials: Sequence[Trial],
    *,
    setting: Mapping[str, Any],
    space: Space,
    options: TuneOptions,
) -> dict[str, Any]:
    """Say what the hyperparameters cost and how sure they are, as runs record it.

    Args:
        config: The resolved config of a trial.
        trials: All of them.
        setting: What of the config is not the default of its task, by dotted key.
        space: What was searched.
        options: How it was searched.

    Raises:
        UserError: If no trial has a value.
    """
    best = choose(trials)
    values = [trial.metric for trial in trials if trial.metric is not None]
    order = sorted(values, reverse=best.higher_is_better)
    count = {name: sum(trial.status == name for trial in trials) for name in ("pruned", *FAULTS)}
    return {
        "trials": len(trials),
        "seeds": list(options.seeds),
        "score": SCORES[options.score],
        "choose": options.choose,
        "budget": budget.describe(config.budget),
        "steps": max(trial.steps for trial in trials),
        "model": config.model.name,
        "tokenization": identity.tokenization(config),
        "setting": dict(setting),
        "sha256": identity.typed_files(config),
        "space": {dimension.key: dimension.facts() for dimension in space},
        "sampler": options.proposed,
        "pruner": options.pruner,
        "completed": len(values),
        "diverged": sum(trial.status in ("diverged", "never finite") for trial in trials),
        "pruned": count["pruned"],
        "failed": sum(count[name] for name in FAULTS),
        "chosen": dict(best.point),
        "on_edge": spaces.on_edge(space, best.point, telling(trials)),
        "spread": {
            "metric": f"validation_{best.measure}",
            "best": _rounded(order[0]),
            "median": _rounded(statistics.median(order)),
            "worst": _rounded(order[-1]),
        },
    }


def telling(trials: Sequence[Trial]) -> list[spaces.Point]:
    """Keep the points that say something of the method: those that failed say nothing."""
    return [trial.point for trial in trials if trial.status not in _WITHOUT_END]


def render(command: str, trials: Sequence[Trial], facts: Mapping[str, Any], *, space: Space) -> str:
    """Write the ledger: a mapping with one item a trial, in the order of their values.

    Args:
        command: What makes it again.
        trials: All of them.
        facts: Of ``effort``.
        space: What was searched.
    """
    head = {"ledger": VERSION, "command": command, "tuning": dict(facts)}
    ordered = sorted(trials, key=lambda trial: [d.order(trial.point[d.key]) for d in space])
    lines = [
        "# Every trial of a tuning, with the best validation result of each seed, in the order of",
        f"# `tuning: seeds:`; `score` is {facts['spread']['metric']} ({facts['score']}), by which",
        "# they are judged, `loss` their mean validation loss.",
        yaml.safe_dump(head, sort_keys=False, width=100, default_flow_style=None) + "trials:",
        # A line each, whatever its length.
        *(f"- {_flow(_facts(trial))}" for trial in ordered),
    ]
    return "\n".join(lines) + "\n"


def _facts(trial: Trial) -> dict[str, Any]:
    return {
        "stage": trial.stage,
        "state": trial.status,
        "values": dict(trial.point),
        "scores": list(trial.scores),
        "score": trial.metric,
        "loss": trial.loss,
    }


def _flow(mapping: Mapping[str, Any]) -> str:
    text = yaml.safe_dump(mapping, sort_keys=False, width=float("inf"), default_flow_style=True)
    return text.strip()


def line(trial: Trial, *, name: str) -> str:
    """Write the trial for a person: its values, and the validation score by which it is judged.

    Args:
        trial: What came of it.
        name: Of the study, as ``adam on digits``.
    """
    values = ", ".join(f"{key}={value}" for key, value in trial.point.items())
    seeds = ", ".join("none" if one is None else digits(one) for one in trial.scores)
    status = trial.status
    if trial.metric is not None and trial.loss is not None:
        status = f"validation {trial.measure} {digits(trial.metric)}, loss {trial.loss:.5g}"
    each = f" (seeds: {seeds})" if len(trial.scores) > 1 else ""
    return f"{name}, {values}: {status}{each}"


def digits(value: float) -> str:
    """Four decimals, but no page of them where a method blew up and its perplexity with it.

    Of a small loss four digits.

    Example:
        >>> [digits(value) for value in (98.95833, 0.0123456, 0.0, 3.2e199)]
        ['98.9583', '0.01235', '0.0000', '3.200e+199']
    """
    if 0 < abs(value) < 0.1:
        return f"{value:.4g}"
    return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.3e}"


def _rounded(value: float) -> float:
    return float(digits(value))
