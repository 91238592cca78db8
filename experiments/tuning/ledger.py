"""The file of tuned hyperparameters: the best trial, all others above it, and the effort behind."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from experiments import budget, identity
from experiments.record import FAULTS
from experiments.tuning import space as spaces
from experiments.tuning.rungs import PRUNERS
from experiments.tuning.space import Space
from experiments.tuning.trials import Trial, choose

_WITHOUT_END = (*FAULTS, "pruned")


def effort(
    config: Mapping[str, Any],
    trials: Sequence[Trial],
    *,
    space: Space,
    seeds: Sequence[int],
    sampler: str,
    pruner: str,
) -> dict[str, Any]:
    """What the hyperparameters cost and how sure they are, as runs record it.

    Args:
        config: The resolved config of a trial.
        trials: All of them.
        space: What was searched.
        seeds: Seeds of each trial.
        sampler: What proposed the points.
        pruner: What stopped trials early.

    Raises:
        UserError: If no trial has a value.
    """
    best = choose(trials)
    values = [trial.metric for trial in trials if trial.metric is not None]
    order = sorted(values, reverse=best.higher_is_better)
    tried = [trial.point for trial in trials if trial.status not in _WITHOUT_END]
    count = {name: sum(trial.status == name for trial in trials) for name in ("pruned", *FAULTS)}
    return {
        "trials": len(trials),
        "seeds": list(seeds),
        "budget": budget.describe(config["budget"]),
        "model": config["model"]["name"],
        "tokenization": identity.tokenization(config),
        "space": {dimension.key: dimension.facts() for dimension in space},
        "sampler": sampler,
        "pruner": pruner,
        "completed": len(values),
        "diverged": sum(trial.status in ("diverged", "never finite") for trial in trials),
        "pruned": count["pruned"],
        "failed": sum(count[name] for name in FAULTS),
        "chosen": dict(best.point),
        "on_edge": spaces.on_edge(space, best.point, tried),
        "spread": {
            "metric": f"validation_{best.measure}",
            "best": _rounded(order[0]),
            "median": _rounded(statistics.median(order)),
            "worst": _rounded(order[-1]),
        },
    }


def render(
    command: str, trials: Sequence[Trial], facts: Mapping[str, Any], *, task: str, space: Space
) -> str:
    """The YAML of the best trial, with the ledger as its header.

    Args:
        command: What makes it again.
        trials: All of them.
        facts: Of ``effort``.
        task: Name in conf/task.
        space: What was searched.
    """
    best = choose(trials)
    metric, seeds = facts["spread"]["metric"], ", ".join(map(str, facts["seeds"]))
    once, mean = "once (seed", ""
    if len(facts["seeds"]) > 1:
        once, mean = "with each seed (seeds", ", mean over the seeds"
    searched = "; ".join(dimension.describe() for dimension in space)
    width = max(len(metric), 12) + 2
    keys = [dimension.key for dimension in space]
    edge = "".join(f" {_edge(key)}" for key in facts["on_edge"])
    lines = [
        "# @package _global_",
        f"# Chosen on the validation split of {task} by `{command}`:",
        f"# {facts['trials']} trials ({facts['sampler']}) of {searched};",
        f"# each trained {once} {seeds}) for {facts['budget']}{_cut(facts['pruner'])};",
        f"# best by {metric.replace('_', ' ', 1)}{mean}, then by validation loss.{edge}",
        "#",
        f"#   {''.join(f'{key:<{_column(key)}}' for key in keys)}{metric:<{width}}validation_loss",
    ]
    for trial in sorted(trials, key=lambda trial: [d.position(trial.point[d.key]) for d in space]):
        lines.append(_row(trial, keys, width) + ("  <- chosen" if trial is best else ""))
    content = {
        "ruleset": "tuned",
        "optimizer": dict(best.point),
        "tuning": dict(facts),
    }
    body = yaml.safe_dump(content, sort_keys=False, width=100, default_flow_style=None)
    return "\n".join(lines) + "\n" + body


def warnings(task: str, optimizer: str, facts: Mapping[str, Any]) -> list[str]:
    """One line for each chosen value that lies on the edge of its space."""
    return [
        f"warning: {optimizer} on {task}: {_edge(key)} ({facts['chosen'][key]} of "
        f"{facts['space'][key]['low']} to {facts['space'][key]['high']})"
        for key in facts["on_edge"]
    ]


def _edge(key: str) -> str:
    return f"The best {key} lies on the edge of its space."


def _cut(pruner: str) -> str:
    cuts = ", then ".join(f"1/{cut}" for cut in PRUNERS[pruner])
    return f", after {cuts} of it (pruner {pruner})" if cuts else ""


def _row(trial: Trial, keys: Sequence[str], width: int) -> str:
    told = (
        f"{_digits(trial.metric):<{width}}{trial.loss:.5f}"
        if trial.metric is not None and trial.loss is not None
        else trial.status
    )
    values = "".join(f"{_short(trial.point[key]):<{_column(key)}}" for key in keys)
    return f"#   {values}{told}"


def _column(key: str) -> int:
    return max(len(key), 9) + 2


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _digits(value: float) -> str:
    """Four decimals, but no page of them where a method blew up and its perplexity with it."""
    return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.3e}"


def _rounded(value: float) -> float:
    return float(_digits(value))
