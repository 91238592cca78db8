"""The trials of tuning studies: the ledger of a tuned file, else their records beside the runs.

A study's runs are under ``.tuning/`` where the runs lie. What it found is in the ledger beside its
tuned file, in ``ledgers/``, by what each trial was judged by; it is read for the runs whose record
tells of that very study. Trials of which no run tells yet are judged here, by their worst seed.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml

from analysis.results.cache import read_records
from analysis.results.groups import BLOCK, tuned_setting
from analysis.results.load import Results, to_results
from analysis.results.settings import changes, model_text, short_budget
from analysis.statistics.expected_best import trial_results
from analysis.statistics.summary import Floats
from experiments.records import kinds
from experiments.records.archive import LEDGERS_DIR
from experiments.records.reading import content_or_fault
from experiments.records.schema import METRICS_FILE, STATUS_FILE, UNFINISHED, roots
from experiments.records.tables import LEDGER as LEDGER_FILE
from experiments.system.output import plain_values

TRIALS_DIR = Path(".tuning")
TUNED = Path(__file__).resolve().parents[2] / "conf" / "tuned"
"""What tuning has found: data, in a folder a task."""
RATE = "lr"
OWN = "."
"""In place of a setting: the task's own file, as ``tuned=`` has it."""
PRUNED = "pruned"
"""State of a trial in a ledger."""
BLOWN_UP = 10.0  # times the median of a panel
LEDGER = 1
"""Version of the ledgers that are read."""


class LedgerError(ValueError):
    """A ledger that cannot be read; the message is one line that names it and says what to do."""


@dataclass(frozen=True)
class Trials:
    """All trials of one method on one task, each of one budget.

    Attributes:
        title: Task, model and budget.
        in_full: The same with the day and machine that a budget of time was measured on.
        optimizer: The method, with what was searched where the others searched something else, and
            with the setting whose file has the choice where there are several.
        searched: Names of the hyperparameters.
        tuned: Name of that setting, as ``tuned=`` has it; empty: the task's own, or none yet.
        family: Lends it its colour.
        metric: What is measured, as ``validation_accuracy_percent``.
        higher_is_better: Its direction.
        units: What loss and metrics are counted in, by name.
        values: The best result of each trial, ``[trials]``; NaN where it has none.
        rates: Its learning rate, ``[trials]``; NaN where the trials differ in more than that.
        pruned: Whether a pruner stopped it after a part of the budget, ``[trials]``: it has no
            value, and says nothing of what it would have come to.
    """

    title: str
    in_full: str
    optimizer: str
    searched: str
    tuned: str
    family: str
    metric: str
    higher_is_better: bool
    units: Mapping[str, str]
    values: Floats
    rates: Floats
    pruned: npt.NDArray[np.bool_]


def trials_of(results: Results) -> list[Trials]:
    """Find the trials beside the runs, and the ledgers of tuned runs for what is not there."""
    ledgers = {(_of(trials), trials.tuned): trials for trials in _ledgers(results)}
    known = {of for of, _ in ledgers}
    found = [trials for trials in _recorded(results.runs_dir) if _of(trials) not in known]
    found += ledgers.values()
    named = [_named(trials, found) for trials in found]
    return sorted(named, key=lambda trials: (trials.title, trials.optimizer))


def _of(trials: Trials) -> tuple[str, str, str]:
    """Tell what was tuned; a record of a trial does not tell for which file."""
    return trials.in_full, trials.optimizer, trials.searched


def panels_of(found: Iterable[Trials]) -> dict[str, list[Trials]]:
    """Put together what was judged by one metric under one title, by the title of the panel."""
    panels: dict[tuple[str, str], list[Trials]] = {}
    for trials in found:
        panels.setdefault((trials.title, trials.metric), []).append(trials)
    titles = Counter(title for title, _ in panels)
    return {
        title if titles[title] == 1 else f"{title}, by {metric}": trials
        for (title, metric), trials in panels.items()
    }


def without_blown_up(panel: Sequence[Trials]) -> list[Floats]:
    """Give the values of trials, NaN for those that say nothing but that they are bad.

    They diverged, failed, or ended, where low is good, at more than ten times the median. It is NaN
    too of those that were pruned, which were poorer than others and need not be bad.
    """
    found = [np.where(np.isfinite(one.values), one.values, np.nan) for one in panel]
    known = np.concatenate(found)
    median = float(np.nanmedian(known)) if np.isfinite(known).any() else 0.0
    if not panel[0].higher_is_better and median > 0:
        found = [np.where(values > BLOWN_UP * median, np.nan, values) for values in found]
    return found


def _named(trials: Trials, found: Sequence[Trials]) -> Trials:
    """Tell apart what was timed on two days or machines, and two tunings of one method."""
    if len({one.in_full for one in found if one.title == trials.title}) > 1:
        trials = replace(trials, title=trials.in_full)
    alike = [one for one in found if one.in_full == trials.in_full]
    own = [one for one in alike if one.optimizer == trials.optimizer]
    apart = []
    if len({one.searched for one in own}) > 1:
        usual = Counter(one.searched for one in alike).most_common(1)[0][0]
        apart += [trials.searched] * (trials.searched != usual)
    if sum(one.searched == trials.searched for one in own) > 1:
        # Of as many the task's own, whose name is empty: the order of files is no reason.
        usual = Counter(sorted(one.tuned for one in alike)).most_common(1)[0][0]
        apart += [f"tuned={trials.tuned or OWN}"] * (trials.tuned != usual)
    if not apart:
        return trials
    return replace(trials, optimizer=f"{trials.optimizer} ({', '.join(apart)})")


def ledger_problems(results: Results) -> tuple[str, ...]:
    """One line for each ledger of tuned runs that is there and cannot be read."""
    found = []
    for file in sorted(_tuned(results)):
        try:
            read_ledger(file, results.runs_dir)
        except LedgerError as error:
            found.append(str(error))
    return tuple(found)


def trials_digest(runs_dir: Path | None) -> bytes:
    """Digest of all that ``trials_of`` reads besides the runs."""
    digest = hashlib.sha256()
    paths = sorted(TUNED.rglob("ledgers/*.yaml"))
    paths += [] if runs_dir is None else sorted((runs_dir / LEDGERS_DIR).rglob("*.yaml"))
    for root in [] if runs_dir is None else roots(runs_dir):
        for name in (STATUS_FILE, METRICS_FILE):
            paths += sorted((root / TRIALS_DIR).glob(f"*/{name}"))
    for path in paths:
        digest.update(os.fsencode("/".join(path.parts[-3:])) + content_or_fault(path))
    return digest.digest()


def _recorded(runs_dir: Path | None) -> Iterator[Trials]:
    # What is no record there (a study's own folder) is none of the report's concern.
    records = {
        record.run_id: record
        for root in ([] if runs_dir is None else roots(runs_dir))
        for record in read_records(root / TRIALS_DIR)[0]
    }
    loaded = to_results(list(records.values()))
    ended = loaded.runs[~loaded.runs["status"].isin(UNFINISHED)]
    typed = ((origin or {}).get("typed") or () for origin in ended["origin"])
    ended = ended.assign(searched=[_searched(keys) for keys in typed])
    for _, runs in ended.groupby([*BLOCK, "block", "optimizer", "searched"], sort=True):
        first = runs.iloc[0]
        metric, higher = f"validation_{first['metric']}", bool(first["higher_is_better"])
        curves = loaded.series_by_run(metric, "step")
        values = trial_results(runs, curves, higher_is_better=higher)
        titles, units = _titles(first, first["budget"]), first["units"]
        # A trial is a group, in the order of its first run.
        rates = [one.get(RATE) for one in runs.drop_duplicates("group_id")["hyperparameters"]]
        if first["searched"] != RATE:
            rates = [None] * len(rates)
        made = np.array(rates, dtype=np.float64)
        method = first["optimizer"], first["searched"], "", first["family"]
        # A trial that went no further is here one of a shorter budget.
        whole = np.zeros(len(values), dtype=np.bool_)
        yield Trials(*titles, *method, metric, higher, units, values, made, whole)


def _searched(keys: Iterable[str]) -> str:
    """Name what trials have otherwise than their method: what their tuning searched, and held.

    The rate is always among it, as one of its values may be the method's own.
    """
    return ", ".join(sorted({RATE, *keys}))


def _ledgers(results: Results) -> Iterator[Trials]:
    for file, runs in _tuned(results).items():
        try:
            ledger = read_ledger(file, results.runs_dir)
        except LedgerError:  # `ledger_problems` tells of it
            continue
        for _, block in runs.groupby([*BLOCK, "block"], sort=True):
            first = block.iloc[0]
            # The file may have been made anew since the run.
            if not ledger or not _is_of(first["tuning"], ledger["tuning"]):
                continue
            metric = ledger["tuning"]["spread"]["metric"]
            tried = [trial["values"] for trial in ledger["trials"]]
            rates = [one[RATE] if set(one) == {RATE} else None for one in tried]
            yield Trials(
                *_titles(first, ledger["tuning"]["budget"]),
                first["optimizer"],
                _searched({key for values in tried for key in values}),
                tuned_setting(first["origin"]),
                first["family"],
                metric,
                metric != "validation_loss" and bool(first["higher_is_better"]),
                first["units"],
                np.array([trial["score"] for trial in ledger["trials"]], dtype=np.float64),
                np.array(rates, dtype=np.float64),
                np.array([one.get("state") == PRUNED for one in ledger["trials"]], np.bool_),
            )


def _tuned(results: Results) -> dict[str, pd.DataFrame]:
    """Find the runs with tuned hyperparameters, by the path of their tuned file below ``TUNED``."""
    runs = results.runs[results.runs["ruleset"] == "tuned"]
    files = pd.Series([tuned_file(run) for _, run in runs.iterrows()], index=runs.index, dtype=str)
    return {str(file): part for file, part in runs.groupby(files, sort=True)}


def tuned_file(run: pd.Series) -> str:
    """Tell which file of ``TUNED`` a run of ruleset=tuned has its hyperparameters from.

    Args:
        run: Its row, or that of its group.
    """
    recorded = (run["origin"] or {}).get("ruleset_file") or {"path": ""}
    folder, _, inner = str(recorded["path"]).partition("/")
    return inner if folder == TUNED.name else f"{run['task']}/{run['optimizer']}.yaml"


def _is_of(recorded: Any, study: Mapping[str, Any]) -> bool:
    """Tell whether a run's record tells of this study."""
    return isinstance(recorded, Mapping) and all(
        key in recorded and recorded[key] == value for key, value in study.items()
    )


def ledger_path(file: str, runs_dir: Path | None = None) -> Path:
    """Tell where the ledger of a tuned file lies: with archived runs, else in ``conf/``."""
    if runs_dir is not None and (kept := runs_dir / LEDGERS_DIR / file).is_file():
        return kept
    path = TUNED / file
    return path.parent / "ledgers" / path.name


def is_named(file: str) -> bool:
    """Tell whether a record names a tuned file as tuning does: in a folder a task, or below it."""
    folders = Path(file).parent.parts
    return 1 <= len(folders) <= 2 and not {"..", "/"} & set(folders)


def read_ledger(file: str, runs_dir: Path | None = None) -> dict[str, Any]:
    """Read the ledger of a tuned file; empty where nothing was tuned.

    Args:
        file: Its path below ``TUNED``.
        runs_dir: Folder of the records, which may have it.

    Returns:
        ``tuning``, the effort as runs record it, and ``trials``, each with its ``score``: the
        validation result that it was judged by, None where it has none.

    Raises:
        LedgerError: If it is of another version, or damaged, or not there for a tuned file.
    """
    path = ledger_path(file, runs_dir)
    folders, name = Path(file).parent.parts, Path(file).name
    if not is_named(file):
        return {}

    own = path.is_relative_to(TUNED)
    shown = path.relative_to(TUNED.parents[1] if own else path.parents[len(folders) + 1])

    def fault(what: str) -> LedgerError:
        setting = "".join(f" ARGS=tuned={folder}" for folder in folders[1:])
        return LedgerError(
            f"{shown}: {what}; its trials are left out. "
            f"`make tune OPT={name.removesuffix('.yaml')} TASK={folders[0]}{setting}` writes it "
            "anew."
        )

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if path.parents[1].joinpath(path.name).is_file():
            raise fault("missing, as of an older version that kept it as a comment") from None
        return {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        raise fault("not readable as YAML") from None
    version = found.get("ledger") if isinstance(found, dict) else None
    if version != LEDGER:
        raise fault(f"ledger is {version!r}, this version reads {LEDGER}")
    wrong = kinds.fault(found, LEDGER_FILE)
    if wrong or len(found["trials"]) != found["tuning"]["trials"]:
        raise fault(f"damaged ({wrong or 'trials are missing'})")
    return dict(plain_values(found))


def _titles(run: pd.Series, budget: str) -> tuple[str, str]:
    """Give the title of trials, and the same in full."""
    setting = run["setting"] if run["setting"] not in ("scratch", "") else ""
    named = ("budget", "model", "tokenization", "setting", "pretrained")
    apart = changes(run, without=named) if run["origin"] else []
    names = [run["task"], run["tokenization"], model_text(run), setting, *apart]
    what = ", ".join(name for name in names if name)
    return f"{what}: trials of {short_budget(budget)}", f"{what}: trials of {budget}"
