"""The file of tuned hyperparameters, which ``ruleset=tuned`` reads, and its ledger beside it."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from experiments.config import commandline, named
from experiments.config.commandline import quoted
from experiments.config.essence import NOT_HASHED
from experiments.config.rulesets import OWN, apart
from experiments.records.store import write_atomic
from experiments.tuning.options import TuneOptions
from experiments.tuning.rungs import PRUNERS
from experiments.tuning.space import Space
from experiments.tuning.written import EXPERIMENT, PLAIN, OfMethods

TUNED = commandline.CONF / commandline.TUNED
LEDGERS = commandline.LEDGERS
NEW = ".new"
"""Ends the name of a file that lies beside the one which rulesets read."""


def render(command: str, facts: Mapping[str, Any], *, name: str, task: str, space: Space) -> str:
    """Write the YAML of the best trial.

    Args:
        command: What makes it again.
        facts: Of ``ledger.effort``.
        name: Of the method.
        task: Name in conf/task.
        space: What was searched.
    """
    seeds = ", ".join(map(str, facts["seeds"]))
    metric = facts["spread"]["metric"].replace("_", " ", 1)
    once, judged = f"once (seed {seeds})", f"{metric}, then by validation loss"
    if len(facts["seeds"]) > 1:
        once = f"with each seed ({seeds})"
        judged = f"{metric} ({facts['score']}), then by mean validation loss"
    searched = "; ".join(dimension.describe() for dimension in space)
    lines = [
        "# @package _global_",
        f"# Chosen on the validation split of {task} by `{command}`:",
        f"# {facts['trials']} trials ({facts['sampler']}) of {searched};",
        f"# each trained {once} for {facts['budget']}{_cut(facts['pruner'])};",
        f"# best by {judged}.{''.join(f' {text}' for text in remarks(facts))}",
        f"# All trials are in {LEDGERS}/{name}.yaml.",
    ]
    content = {"ruleset": "tuned", "optimizer": dict(facts["chosen"]), "tuning": dict(facts)}
    body = yaml.safe_dump(content, sort_keys=False, width=100, default_flow_style=None)
    return "\n".join(lines) + "\n" + body


def remarks(facts: Mapping[str, Any]) -> list[str]:
    """Say what makes the choice less sure than its trials are many, a sentence each.

    Args:
        facts: Of ``ledger.effort``.
    """
    found = [f"The best {key} is at the end of what was tried." for key in facts["on_edge"]]
    if facts["failed"]:
        failed = f"{facts['failed']} of {facts['trials']} trials failed"
        found.append(f"{failed}: they say nothing of the method, and do not count as its tuning.")
    return found


def _cut(pruner: str) -> str:
    cuts = ", then ".join(f"1/{cut}" for cut in PRUNERS[pruner])
    return f", after {cuts} of it (pruner {pruner})" if cuts else ""


def write(
    task: str,
    optimizer: str,
    *,
    tuned: str = OWN,
    text: str,
    ledger: str,
    facts: Mapping[str, Any],
) -> tuple[Path, str]:
    """Write what a study came to; what has more behind it stays, and the new file lies beside it.

    Args:
        task: Name in conf/task.
        optimizer: Name in conf/optimizer.
        tuned: Name of the setting, a folder of the task's; by default it has none.
        text: Of ``render``.
        ledger: Of ``ledger.render``.
        facts: Of ``ledger.effort``.

    Returns:
        The file that was written, and one line that tells of an older one that stayed; empty where
        none did.
    """
    path = TUNED / task / tuned / f"{optimizer}.yaml"
    beside = Path(LEDGERS) / path.name
    why = _more(path, facts)
    end = NEW if why else ""
    (path.parent / LEDGERS).mkdir(parents=True, exist_ok=True)
    # The ledger first: cut off in between, the older file is without its trials, not with others.
    for target, content in ((path.parent / f"{beside}{end}", ledger), (Path(f"{path}{end}"), text)):
        write_atomic(target, content.encode())
    if not why:
        return path, ""
    moves = " && ".join(
        shlex.join(["mv", f"{file}{NEW}", str(file)]) for file in (path.name, beside)
    )
    taken = f"(cd {shlex.quote(str(path.parent))} && {moves})"
    return Path(f"{path}{NEW}"), f"{path} stays: {'; '.join(why)}. To take the new one: {taken}"


def command(
    optimizer: str,
    task: str,
    options: TuneOptions,
    overrides: Sequence[str],
    *,
    tuned: str = OWN,
    own: OfMethods = PLAIN,
) -> str:
    """Give the command that makes the same file again, wherever its runs are."""
    elsewhere = ("hydra", "launcher", *NOT_HASHED)
    chosen = named.spelled([f"optimizer={optimizer}", f"task={task}"], kept=True)
    method, on = (item.partition("=")[2] for item in chosen)
    if own.typed:
        said = ("experiment=", "optimizer=", *elsewhere)
        typed = [item for item in own.typed if not item.startswith(said)]
        (experiment,) = (i for i in own.typed if i.startswith(EXPERIMENT))
        arguments = f" ARGS='{' '.join(typed)}'" if typed else ""
        return f"make tune EXPERIMENT={experiment.partition('=')[2]} OPT={method}{arguments}"
    default = TuneOptions()
    further = [
        f"{key}={_typed(value)}"
        for key in (option.name for option in fields(TuneOptions))
        if key != "trials" and (value := getattr(options, key)) != getattr(default, key)
    ]
    further += [] if tuned == OWN else [f"tuned={tuned}"]
    further += [item for item in overrides if not item.startswith(elsewhere)]
    arguments = f" ARGS='{' '.join(further)}'" if further else ""
    return f"make tune OPT={method} TASK={on} TRIALS={options.trials}{arguments}"


def _typed(value: Any) -> str:
    """Write an option as it is typed."""
    if isinstance(value, dict):
        return ",".join(f"{key}:{item}" for key, item in value.items())
    return ",".join(map(str, value)) if isinstance(value, tuple) else quoted(value)


def _more(path: Path, ours: Mapping[str, Any]) -> Sequence[str]:
    """Say what the file that is there has more of than what would replace it; or other things.

    Empty where there is none, or where it has nothing more.
    """
    if not path.exists():
        return []
    try:
        theirs = yaml.safe_load(path.read_text(encoding="utf-8"))["tuning"]
        # Those that failed say nothing.
        counts = [(*(one["trials"] - one.get("failed", 0) for one in (theirs, ours)), "trials")]
        counts += [(len(theirs["seeds"]), len(ours["seeds"]), "seeds")]
        if theirs.get("steps"):  # else only the words of the budget tell
            counts += [(theirs["steps"], ours["steps"], "steps")]
        found = [f"{old} {what}, not {new}" for old, new, what in counts if old > new]
        pruners = [one.get("pruner", "none") for one in (theirs, ours)]
        if len(PRUNERS[pruners[0]]) < len(PRUNERS[pruners[1]]):
            found.append("pruner {}, not {}".format(*pruners))
        same = ["model", "tokenization", *([] if theirs.get("steps") else ["budget"])]
        found += [
            f"{key} {theirs[key]}, not {ours[key]}" for key in same if theirs[key] != ours[key]
        ]
        if "setting" in theirs and apart(theirs["setting"]) != apart(ours["setting"]):
            found.append(f"setting {apart(theirs['setting'])}, not {apart(ours['setting'])}")
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        return ["it does not say what effort is behind it"]
    return found
