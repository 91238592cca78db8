"""Steps of each method in the time of a reference, measured once and written down as a budget.

`python -m experiments steps name=time_digits task=digits optimizer=adafisher,adamw
budget=match_seconds budget.reference_steps=360` lets the methods take turns with the reference, as
`budget=match_seconds` does before a sweep, and writes conf/budget/time_digits.yaml: date, machine,
what was timed, and the steps of each method. `budget=time_digits` then gives the same steps, and so
the same numbers, on any machine. A method that was added later is timed beside the same reference,
on the same machine; `again=true` times all of them anew. Anything else is an override of the runs.
The machine should be idle: a ratio that is uncertain by more than 15 % is refused.
"""

import datetime
import re
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experiments.config import arguments, budget, commandline, compose, grids, refusals, values
from experiments.config.commandline import quoted
from experiments.config.run_config import RunConfig
from experiments.errors import UserError
from experiments.records.calibration import Calibration
from experiments.records.store import write_atomic
from experiments.system.output import say
from experiments.timing import calibration, calibration_key

_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class StepsOptions:
    """Name of the budget, and whether what it has is timed anew."""

    name: str
    again: bool = False


def main(words: Sequence[str]) -> int:
    """Time the methods, and write the budget; returns the exit code."""
    options, overrides = arguments.parse(words, StepsOptions, further=True)
    if not _NAME.fullmatch(options.name):
        raise UserError(f"Invalid name: {options.name!r}. Must be of letters, digits, _ and -.")
    path = commandline.CONF / "budget" / f"{options.name}.yaml"
    earlier = refusals.load(path) if path.is_file() else None
    if earlier is not None and budget.CALIBRATION not in earlier:
        raise UserError(f"Invalid name: {options.name!r}. It is a budget that nobody measured.")
    configs = _methods(overrides)
    if earlier is not None:
        budget.check({**earlier, "steps": 1})
        _measured_of(earlier)
    if earlier is not None and not options.again:
        _check_alike(earlier, configs[0], path)
        configs = [one for one in configs if one.optimizer.name not in earlier[budget.TABLE]]
    if not configs:
        say(f"{refusals.shown(path)} has them all; again=true times them anew")
        return 0
    found = _measured(configs)
    made = _budget(configs, found, None if options.again else earlier)
    write_atomic(path, _text(made, overrides, options.name).encode())
    say(f"written: {refusals.shown(path)}; take it by budget={options.name}")
    return 0


def check(config: RunConfig) -> None:
    """Refuse steps at equal time that were measured of something else than this run.

    Raises:
        UserError: If a value that decides the cost of a step is another one; the line names it.
    """
    if budget.CALIBRATION not in config.budget:
        return
    method, (setting, methods) = config.optimizer.name, _measured_of(config.budget)
    facts = calibration_key.method_facts(config)
    own = {"optimizer": _timed(methods[method], facts), **setting}
    ours = {"optimizer": facts, **_setting(config)}
    timed, used = dict(values.leaves(own)), dict(values.leaves(ours))
    neutral = {f"optimizer.{key}": value for key, value in config.optimizer.neutral.items()}
    for key in [*used, *timed]:
        then, now = timed.get(key, neutral.get(key)), used.get(key, neutral.get(key))
        if then != now:
            raise UserError(
                f"Invalid budget: its steps of {method} were timed with {key}={quoted(then)}, not "
                f"{quoted(now)}. `python -m experiments steps` times others."
            )


def _measured_of(section: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the setting and the methods that were timed, by name.

    Raises:
        UserError: If the budget does not tell them of each method that it has steps of.
    """
    measured = section.get(budget.MEASURED)
    try:
        setting, methods = dict(measured["setting"]), dict(measured["methods"])  # type: ignore[index]
        if all(isinstance(methods[name]["arguments"], Mapping) for name in section[budget.TABLE]):
            return setting, methods
    except (KeyError, TypeError, ValueError):
        pass
    raise UserError(
        f"Invalid budget.{budget.MEASURED}: {measured!r:.60}. Must be as `python -m experiments "
        "steps` writes it."
    )


def _timed(measured: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Give what of a method was timed; a file of before is silent on what the loop gave it."""
    return {"needs": facts.get("needs"), **measured["arguments"]}


def _methods(overrides: Sequence[str]) -> list[RunConfig]:
    """Compose a config for each method; of several seeds the first will do."""
    made: dict[str, RunConfig] = {}
    for grid in grids.spelled_out(commandline.normalise(list(overrides))):
        for _, config in compose.listed(grid):
            made.setdefault(config.having(seed=0).run_id, config)
    configs = list(made.values())
    first, names = configs[0], [config.optimizer.name for config in configs]
    if budget.reference(first.budget) is None:
        raise UserError(
            f"Invalid budget: {budget.describe(first.budget)}. Must be match_seconds, with "
            "budget.reference_steps or budget.reference_epochs."
        )
    for config in configs:
        calibration.check(config)
        if (_setting(config), config.budget) != (_setting(first), first.budget):
            raise UserError(
                "Invalid argument: several settings. Must be one task, model and budget; the next "
                "has a file of its own."
            )
    if len(set(names)) < len(names):
        raise UserError("Invalid argument: several forms of one method. Must be one of each.")
    return configs


def _setting(config: RunConfig) -> dict[str, Any]:
    return calibration_key.cost_facts(config.essence)


def _check_alike(earlier: Mapping[str, Any], config: RunConfig, path: Path) -> None:
    """Refuse to add methods that are timed beside something else, or on another machine."""
    head, reference = earlier[budget.CALIBRATION], budget.reference(config.budget)
    setting, methods = _measured_of(earlier)
    length = earlier[budget.MEASURED]["steps_per_epoch"]
    then = {
        "machine": head["machine"],
        "reference": head["reference"],
        "steps": head["reference_steps"],
        **dict(values.leaves(setting)),
    }
    now = {
        "machine": _machine(calibration_key.machine(config)),
        "reference": reference,
        "steps": budget.reference_steps(config.budget, steps_per_epoch=length),
        **dict(values.leaves(_setting(config))),
    }
    if reference == head["reference"] and reference in methods:  # else nothing tells of its form
        of = config.having(optimizer=calibration_key.reference_section(config).values)
        facts = calibration_key.method_facts(of)
        timed = _timed(methods[reference], facts)
        then |= {f"{reference}.{key}": value for key, value in timed.items()}
        now |= {f"{reference}.{key}": value for key, value in facts.items()}
    for key in [*now, *then]:
        if then.get(key) != now.get(key):
            raise UserError(
                f"{refusals.shown(path)}: timed with {key}={then.get(key)}, not {now.get(key)}. "
                "again=true times all of it anew."
            )


def _measured(configs: Sequence[RunConfig]) -> list[Calibration]:
    """Time all methods now, whatever was measured before."""
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for one in calibration.measure(configs, Path(folder)):
            if not isinstance(one, Calibration):
                raise one
            found.append(one)
    return found


def _budget(
    configs: Sequence[RunConfig],
    found: Sequence[Calibration],
    earlier: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Make the content of the file, or add to that of an earlier one."""
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    first, section = found[0], configs[0].budget
    reference_steps = budget.reference_steps(section, steps_per_epoch=first.steps_per_epoch)
    head = (first.reference, reference_steps, today, _machine(first.machine))
    methods = {
        one.method: {
            "date": today,
            "ratio": round(one.ratio, 4),
            "seconds_per_step": float(f"{one.seconds_per_step:.3g}"),
            "spread_percent": round(one.spread_percent, 1),
            "noise_percent": None if one.noise_percent is None else round(one.noise_percent, 1),
            "arguments": calibration_key.method_facts(config),
        }
        for config, one in zip(configs, found, strict=True)
    }
    table = {one.method: one.steps(reference_steps) for one in found}
    made: dict[str, Any] = {
        "steps": None,  # the method's, of the table
        budget.TABLE: table,
        budget.CALIBRATION: dict(zip(budget.CALIBRATED_BY, head, strict=True)),
        budget.MEASURED: {
            "machine": first.machine,
            "steps_per_epoch": first.steps_per_epoch,
            "setting": _setting(configs[0]),
            "methods": methods,
        },
    }
    per = (section if earlier is None else earlier).get(budget.SCHEDULE_PER)
    if per is not None:
        made = {"steps": None, budget.SCHEDULE_PER: per, **made}
    if earlier is not None:
        kept = earlier[budget.MEASURED]
        made[budget.TABLE] = {**earlier[budget.TABLE], **table}
        made[budget.CALIBRATION] = earlier[budget.CALIBRATION]
        made[budget.MEASURED] = {**kept, "methods": {**kept["methods"], **methods}}
    return made


def _machine(facts: Mapping[str, Any]) -> str:
    """Name a machine in a few words."""
    if facts["device"] not in ("cpu", "mps"):
        return str(facts["device"])
    count = facts["threads"]
    return f"{facts['processor']}, {count} thread{'s' if count > 1 else ''}".replace(", ", "; ")


def _text(made: Mapping[str, Any], overrides: Sequence[str], name: str) -> str:
    command = shlex.join(["python", "-m", "experiments", "steps", f"name={name}", *overrides])
    lines = [
        "# Steps of each method in the training time of a reference, by a calibration. Made by",
        f"# `{command}`.",
    ]
    body = yaml.safe_dump(dict(made), sort_keys=False, width=100, default_flow_style=None)
    return "\n".join(lines) + "\n" + body
