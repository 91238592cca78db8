"""Studies: `python -m experiments study study=landscape runs_dir=... [key=value]`.

A study trains something small and keeps arrays that figures are drawn from, under
`<runs_dir>/.studies/<study>/<id>/`: `arrays.npz` and `study.json` with the configuration, the
environment and a few facts. The id is a hash of the configuration, so that a study that is done is
skipped. `study=all` measures every one in conf/study, `study=missing` those of which there is none
yet, with `figure=loss_landscape` only what that figure is drawn from. A key of the study's own YAML
sets that, any other one the run that it watches.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import numpy as np
from omegaconf import DictConfig, OmegaConf

from experiments.config import arguments, commandline, refusals, values
from experiments.config.essence import digest, essence
from experiments.config.run_config import FOLDERS
from experiments.engine.divergence import DivergedError
from experiments.engine.machine import describe_machine
from experiments.errors import UserError
from experiments.records import strict_json
from experiments.records.outcome import EXIT_CODES
from experiments.records.reading import read_json
from experiments.records.schema import STUDIES_DIR, STUDY_ARRAYS, STUDY_FILE, roots
from experiments.records.store import write_atomic
from experiments.records.tables import STUDY
from experiments.studies.contract import StudyPlan
from experiments.system.output import say

SCHEMA = 1
ALL, MISSING = "all", "missing"
FIGURES = "figures"


@dataclass(frozen=True)
class Study:
    """A study that was asked for, its values checked.

    Attributes:
        name: Stem of its YAML.
        folder: Where its result is, or will be.
        plan: How it is measured.
        command: What measures it again.
    """

    name: str
    folder: Path
    plan: StudyPlan
    command: str

    def is_done(self) -> bool:
        """Tell whether the result is there: the folder appears whole."""
        return (self.folder / STUDY_FILE).is_file()


def names() -> list[str]:
    """Every study, found by listing ``conf/study``."""
    return commandline.choices("study")


def missing_studies(runs_dir: Path, figure: str | None = None) -> list[str]:
    """Name the studies of which ``runs_dir`` holds no result, whatever its configuration.

    Args:
        runs_dir: Folder of the run records.
        figure: Only those that this figure is drawn from.
    """
    return [
        name
        for name in names()
        if not any(
            True
            for root in roots(runs_dir)
            for _ in (root / STUDIES_DIR / name).glob(f"[!.]*/{STUDY_FILE}")
        )
        and (figure is None or figure in figures(name))
    ]


def figures(name: str) -> list[str]:
    """Name the figures that are drawn from a study."""
    return [str(figure) for figure in _yaml(name)[FIGURES]]


def prepare(name: str, overrides: list[str], folders: Mapping[str, str]) -> Study:
    """Compose a study and check its values; nothing is trained.

    Args:
        name: Stem of its YAML.
        overrides: ``key=value``, of the study or of the run that it watches.
        folders: ``data_dir``, ``runs_dir`` and ``cache_dir``, absolute.

    Raises:
        UserError: If the study, a key or a value is unusable.
    """
    if name not in names():
        known = ", ".join([*names(), ALL, MISSING])
        raise UserError(f"Unknown study: {name!r}. Must be one of: {known}.")
    module = importlib.import_module(f"experiments.studies.{name}")
    options, others = _options(name, module, overrides)
    plan: StudyPlan = module.plan(options, others, folders)
    study_id = digest(essence({"study": name, **plan.essence}))
    folder = Path(folders["runs_dir"]) / STUDIES_DIR / name / study_id
    command = " ".join(["python -m experiments study", f"study={name}", *overrides])
    return Study(name, folder, plan, command)


def run(study: Study) -> None:
    """Measure a study, print what it tells, and store it in one step, so that no part is ever seen.

    Raises:
        DivergedError: If what it trains diverges; nothing is stored then.
    """
    import torch

    start = time.perf_counter()
    arrays, facts = study.plan.measure()
    _tell(study, facts)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    described: dict[str, Any] = {
        "schema": SCHEMA,
        "study": study.name,
        "study_id": study.folder.name,
        "command": study.command,
        "config": study.plan.essence,
        "facts": facts,
        "arrays": {name: list(array.shape) for name, array in arrays.items()},
        "arrays_sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
        "environment": describe_machine(torch.device(facts.get("device", "cpu"))),
        "seconds": round(time.perf_counter() - start, 3),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    content = (strict_json.dumps(described, indent=2) + "\n").encode()
    _store(study, {STUDY_ARRAYS: buffer.getvalue(), STUDY_FILE: content})


def _store(study: Study, files: Mapping[str, bytes]) -> None:
    partial = study.folder.with_name(f".{study.folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process of that number that was killed
    partial.mkdir(parents=True)
    try:
        for name, content in files.items():
            write_atomic(partial / name, content)
        if study.is_done():  # another process was faster
            return
        shutil.rmtree(study.folder, ignore_errors=True)  # someone took files out of it
        partial.rename(study.folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def options_class(module: ModuleType) -> Any:
    """Give the class of a study's options: what its ``plan`` takes."""
    return get_type_hints(module.plan)["options"]


def _options(name: str, module: ModuleType, overrides: list[str]) -> tuple[Any, list[str]]:
    """Split off the study's options from the overrides that are none of its keys."""
    file = _yaml(name)
    del file[FIGURES]  # what is drawn from the result is no part of it
    config = OmegaConf.merge(OmegaConf.structured(options_class(module)), file)
    assert isinstance(config, DictConfig)
    others = []
    with refusals.told(f"study={name}"):
        for override in commandline.parse(overrides):
            key = override.get_key_element()
            if key.partition(".")[0] not in config:
                others.append(override.input_line or "")
            elif override.is_sweep_override():
                raise UserError(f"Invalid {key}: {override.input_line}. A study takes one value.")
            else:
                with refusals.told(f"study={name}: Invalid {key}: {override.value()!r}"):
                    OmegaConf.update(config, key, override.value(), merge=False)
        values.check_finite(values.leaves(OmegaConf.to_container(config)))
        return OmegaConf.to_object(config), others


def _yaml(name: str) -> DictConfig:
    return OmegaConf.create(refusals.load(commandline.CONF / "study" / f"{name}.yaml"))


@dataclass(frozen=True)
class StudyRequest:
    """Which studies are asked for: names, all, or those that a figure lacks, and where they are."""

    study: tuple[str, ...] = ()
    figure: str | None = None
    data_dir: Path = Path("data")
    runs_dir: Path = Path("runs")
    cache_dir: Path = Path(".cache")

    def __post_init__(self) -> None:
        if not any(self.study):
            known = ", ".join([*names(), ALL, MISSING])
            raise UserError(f"Missing value: study. Give it as study=<name>, one of: {known}.")
        if self.figure is not None and self.study != (MISSING,):
            raise UserError(f"Invalid figure: {self.figure}. Goes with study={MISSING} only.")


def _asked_for(words: Sequence[str]) -> Iterator[Study]:
    """Yield the studies on a command line, those of ``study=missing`` that are not there.

    Raises:
        UserError: If an argument is unusable.
    """
    if wrong := [word for word in words if "=" not in word]:
        raise UserError(f"Invalid argument: {wrong[0]!r}. Must be key=value.")
    request, others = arguments.parse(words, StudyRequest, further=True)
    folders = {key: str(getattr(request, key).absolute()) for key in FOLDERS}
    chosen = {ALL: names(), MISSING: missing_studies(request.runs_dir, request.figure)}
    overrides = commandline.normalise(others)
    for name in dict.fromkeys(name for key in request.study for name in chosen.get(key, [key])):
        yield prepare(name, overrides, folders)


def _stored_facts(study: Study) -> dict[str, Any]:
    """Read what a study that is done tells.

    Raises:
        UserError: If its description is damaged.
    """
    path = study.folder / STUDY_FILE
    facts: dict[str, Any] = read_json(path, STUDY, schemas=(SCHEMA,))["facts"]
    try:
        list(study.plan.tell(facts))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: its facts are damaged. Delete the folder, and measure it again."
        ) from error
    return facts


def _tell(study: Study, facts: Mapping[str, Any]) -> None:
    for line in study.plan.tell(facts):
        say(f"study {study.name}: {line}")


def main(words: Sequence[str]) -> int:
    """Measure the studies that were asked for; returns the exit code."""
    failed = False
    studies = list(_asked_for(words))
    if not studies:
        say("study: none is missing")
    for study in studies:
        if study.is_done():
            say(f"study {study.name}: done before, {study.folder}")
            _tell(study, _stored_facts(study))
            continue
        say(f"study {study.name}: measuring")
        try:
            run(study)
        except DivergedError as error:
            failed = True
            say(f"study {study.name}: diverged, {error}; nothing is stored", error=True)
            continue
        say(f"study {study.name}: stored in {study.folder}")
    return EXIT_CODES["diverged"] if failed else 0
