"""What a comparison comes to, in one sentence; and what is printed beside it, without a verdict."""

from collections.abc import Mapping
from typing import Any

from experiments.records.verdict import BETTER, LOOKS, UNDECIDED, WITHIN, WORSE

Facts = Mapping[str, Any]

WITHOUT = {
    "at once": "it is at the target from the start",
    "at most": "the other one alone reaches the target",
}
"""What is said of a speed-up without a value, by its bound."""


def sentence(facts: Facts) -> str:
    """Say the verdict on every task, and what it is about.

    Args:
        facts: The record of a comparison, with its results.
    """
    ours, theirs, results = facts["optimizer"], facts["against"], facts["results"]
    claims = "; ".join(
        f"{_claim(one, ours, theirs, facts['margin'])} on {task} ({_details(one, facts, task)})"
        for task, one in results.items()
    )
    holm = f", with Holm's correction for {len(results)} tasks" if len(results) > 1 else ""
    others = "".join(
        f", {how} {count} {which} comparison{'s' * (count > 1)} {what}"
        for how, which, what, names in (
            ("after", "earlier", "that a tuning made void", facts["after"]),
            ("beside", "other", "on some of these tasks", facts.get("beside", ())),
        )
        if (count := len(names))
    )
    return (
        f"{claims}{holm}; this is said of the two configurations as tuned here, frozen before the "
        f"first result seed{others}."
    )


def beside(facts: Facts) -> list[str]:
    """Say how both do after as many epochs, a line a task."""
    return [
        f"without a verdict, for as many epochs on {task}: {_label('test_' + one['metric'])} "
        f"{_beside(made, 'ours')} against {_beside(made, 'theirs')} (n={made['n']})"
        for task, one in facts["results"].items()
        if (made := one["equal_epochs"])
    ]


def _beside(made: Facts, side: str) -> str:
    lost: str = made.get("lost", {}).get(side, "")  # verdicts of before have no such key
    return lost or _number(made[side])


def _claim(one: Facts, ours: str, theirs: str, margin: float | None) -> str:
    return {
        BETTER: f"{ours} is better than {theirs}",
        WORSE: f"{ours} is not better than {theirs} but worse",
        WITHIN: f"{ours} is not better than {theirs}, from which it differs by less than {margin}",
        UNDECIDED: f"{ours} against {theirs} is undecided",
    }[one["verdict"]]


def _details(one: Facts, facts: Facts, task: str) -> str:
    parts = [
        f"{_label('test_' + one['metric'])} {_number(one['ours'])} against "
        f"{_number(one['theirs'])} in the same training time"
    ]
    if one["looks"]:
        last = one["looks"][-1]
        sign = 1 if one["higher_is_better"] else -1
        parts.append(f"mean paired difference {sign * last['difference']:+.3g}")
        if last["low"] is not None:
            low, high = sorted((sign * last["low"], sign * last["high"]))
            level = f"{100 * one['level']:g} % interval over all looks"
            parts.append(f"{level} {low:+.3g} to {high:+.3g}")
    p = "" if one["p_corrected"] is None else f", {_p(one['p_corrected'])}"
    parts.append(f"n={one['n']} of at most {LOOKS[-1]}{p}")
    parts += [one["reason"]] * bool(one["reason"])
    parts += _speed_up(one["speed_up"])
    if one["cost_ratio"] is not None:
        parts.append(f"a step costs {one['cost_ratio']:.3g} times as much")
    frozen = facts["frozen"][task]
    parts.append(" against ".join(_frozen(frozen[side]) for side in ("ours", "theirs")))
    return "; ".join([*parts, _needed(one)])


def _speed_up(made: Facts | None) -> list[str]:
    if made is None or made["value"] is None:
        return [WITHOUT.get(made["bound"], "neither reaches the target")] if made else []
    bound = "" if made["bound"] == "exact" else f"{made['bound']} "
    ends = ""
    if made["low"] is not None:
        ends = f" ({made['low']:.3g} to {made['high']:.3g})"
    target = f"{_label(made['metric'])} {_number(made['target'])}"
    return [f"{bound}{made['value']:.3g} times as fast{ends} to {target}"]


def _frozen(side: Facts) -> str:
    values = ", ".join(f"{key}={value}" for key, value in side["hyperparameters"].items())
    failed = side["effort"].get("failed")
    some = f", {failed} of which failed" if failed else ""
    return f"{values} of {side['effort']['trials']} trials{some}"


def _needed(one: Facts) -> str:
    if one["verdict"] != UNDECIDED:
        return "no more seeds are needed"
    if not one["final"]:
        return f"up to {LOOKS[-1] - one['n']} more seeds may tell"
    if one["seeds_needed"] is None:
        return "no affordable number of seeds would tell"
    return (
        f"a difference of this size takes about {max(one['seeds_needed'], one['n'] + 1)} seeds, in "
        "a comparison of its own"
    )


def _p(p: float) -> str:
    return "p<1e-6" if p < 1e-6 else f"p={p:.2g}"


def _label(metric: str) -> str:
    return metric.replace("_percent", " in %").replace("_", " ")


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"
