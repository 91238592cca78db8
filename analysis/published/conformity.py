"""What a run has otherwise than the recipe of a published row: its protocol, ruleset and method."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.published.shipped import BY_METHOD, Recipe, Shipped, ShippedMethod

IGNORED = {
    "setting": "the row has it in its name",
    "device": "the published one is not named, and devices differ by rounding alone",
    "compile": "the same arithmetic",
    "channels_last": "a layout in memory",
    "budget.by_optimizer": "what other methods get",
    "task.epochs": "the default of a budget, which is compared itself",
    "task.eval_batch_size": "every sample is counted once, whatever the batches",
    "task.download": "fetches the same files",
}
"""Keys of a protocol that do not matter to a published row, and why. ``evaluations_per_epoch`` is
none of them: the best of more evaluations is better."""
ALIKE = {"precision": ("fp32", "tf32")}
"""Values that are one: the published runs computed in float32; whether with TF32 is not known."""
NOT_RECORDED = "not recorded"
FRACTION = "task.validation_fraction"


@dataclass(frozen=True)
class Conformity:
    """How a run compares with a recipe.

    Attributes:
        recipe: The recipe.
        departures: What is not the recipe's, each as ``cutout_size 0, not 16``.
        text: All of them, those apart that the run's experiment had when it was run.
        ignored: Departures that do not matter (``IGNORED``, ``ALIKE``).
        is_recorded: Whether the run has a protocol to compare.
    """

    recipe: Recipe
    departures: tuple[str, ...]
    text: str
    ignored: tuple[str, ...] = ()
    is_recorded: bool = True


def conformity(run: Mapping[str, Any], recipe: Recipe, shipped: Shipped) -> Conformity:
    """Compare a run, a row of the run-level frame, with a recipe of the row that it stands near."""
    if not run["protocol"]:
        return Conformity(recipe, (NOT_RECORDED,), NOT_RECORDED, is_recorded=False)
    method = recipe.methods.get(run["optimizer"])
    neutral = shipped.neutral.get(run["optimizer"], {})
    own = _facts(run["ruleset"], run["protocol"], {**neutral, **run["hyperparameters"]})
    wanted = facts_of(recipe, method, neutral)
    names = _short([key for key in {**own, **wanted} if not _is_ignored(key)])
    found: dict[str, str] = {}  # by key
    ignored = []
    for key in dict.fromkeys([*wanted, *own]):
        section = key.partition(".")[0]
        mine, theirs = own.get(key), wanted.get(key)
        if plain(mine) == plain(theirs):
            continue
        alike = ALIKE.get(key, ())
        if _is_ignored(key) or (mine in alike and theirs in alike):
            ignored.append(f"{key} {plain(mine)}, not {plain(theirs)}")
        elif method is None and section in ("budget", "optimizer"):
            continue
        elif method is not None and section == "budget":
            found["budget"] = f"{run['budget']}, not {method.budget}"
        elif plain(own.get(f"{section}.name")) != plain(wanted.get(f"{section}.name")):
            # Of another choice all else is other too.
            own_name, name = own.get(f"{section}.name"), wanted.get(f"{section}.name")
            found[f"{section}.name"] = f"{section} {plain(own_name)}, not {plain(name)}"
        else:
            allowed = " or ".join(alike or (plain(theirs),))
            found[key] = f"{names[key]} {plain(mine)}, not {allowed}"
    found |= _beyond(run, recipe, method)
    recorded = _recorded(run, shipped, own) & set(found)
    return Conformity(
        recipe, tuple(found.values()), _text(run, found, recorded), tuple(sorted(ignored))
    )


def facts_of(
    recipe: Recipe, method: ShippedMethod | None, neutral: Mapping[str, Any]
) -> dict[str, Any]:
    """All that a method is run with in a recipe, by dotted key; nulls are left out."""
    protocol = dict(recipe.protocol)
    if method is not None and method.epochs is not None:
        protocol["budget"] = {**protocol["budget"], "epochs": method.epochs}
    values = {} if method is None else method.hyperparameters
    return _facts(recipe.ruleset, protocol, {**neutral, **values})


def _beyond(
    run: Mapping[str, Any], recipe: Recipe, method: ShippedMethod | None
) -> Iterator[tuple[str, str]]:
    """Find what no value of the protocol tells."""
    cut = run["validation"]
    if recipe.protocol["task"].get("validation_fraction") == 0 and (cut is None or cut):
        yield FRACTION, "a validation split cut from train" if cut else "validation not known"
    if run.get("evaluate_test") == "best":
        yield "evaluate_test", "test evaluated at the best epoch alone"
    if run["control"]:
        yield "control", f"control {run['control']}"
    if method is None:
        yield "optimizer", f"no published budget and hyperparameters of {run['optimizer']}"
    for override in (run["origin"] or {}).get("command", ()):
        if override.lstrip("+").startswith("optimizer._target_="):
            yield "optimizer._target_", override


def _recorded(run: Mapping[str, Any], shipped: Shipped, own: Mapping[str, Any]) -> set[str]:
    """Keys of which a shipped experiment gave the run's own value when it was run."""
    stated = _experiment(run)
    if stated is None or stated["name"] not in shipped.experiments:
        return set()
    given = _facts(stated["ruleset"], stated["protocol"], stated["hyperparameters"])
    same = {key for key in own if plain(given.get(key)) == plain(own[key])}
    budget = {key for key in own if key.startswith("budget.")}
    return same | ({"budget"} if budget <= same else set())


def _experiment(run: Mapping[str, Any]) -> Mapping[str, Any] | None:
    stated: Mapping[str, Any] | None = (run["origin"] or {}).get("experiment")
    return stated


def _text(run: Mapping[str, Any], found: Mapping[str, str], recorded: set[str]) -> str:
    parts = [", ".join(words for key, words in found.items() if key not in recorded)]
    if recorded:
        stated = _experiment(run) or {}
        of_it = ", ".join(words for key, words in found.items() if key in recorded)
        parts.append(f"experiment {stated['name']} as recorded: {of_it}")
    return "; ".join(filter(None, parts))


def _facts(
    ruleset: str, protocol: Mapping[str, Any], hyperparameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything by dotted key; what is null is left out, and a horizon that is the budget."""
    flat = dict(_leaves({**protocol, "optimizer": hyperparameters}))
    if flat.get("schedule.horizon_epochs") == flat.get("budget.epochs"):
        flat.pop("schedule.horizon_epochs", None)
    return {"ruleset": ruleset, **{key: value for key, value in flat.items() if value is not None}}


def _leaves(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _is_ignored(key: str) -> bool:
    return key in IGNORED or key.startswith(f"budget.{BY_METHOD}.")


def _short(keys: Sequence[str]) -> dict[str, str]:
    """Shorten each key to its last part, where no other key has the same."""
    last = [key.rpartition(".")[2] for key in keys]
    return {
        key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)
    }


def plain(value: Any) -> str:
    """One spelling for each value: ``1`` and ``1.0`` are the same number."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(plain, value))}]"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return json.dumps(value)
    return f"{value:.12g}"
