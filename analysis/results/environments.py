"""Where runs ran, when, and with which code and versions, from their records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.records.reading import BrokenRecordError
from experiments.records.schema import load_environment
from experiments.system.output import plain_values

PACKAGES = ("torch", "numpy")
"""Whose versions are told beside Python's."""

Environment = Mapping[str, Any]


def environments(runs_dir: Path | None, folders: Iterable[str]) -> dict[str, Environment]:
    """Read the environments of records, by folder; those that cannot be read are left out."""
    found = {}
    for folder in folders:
        try:
            found[folder] = plain_values(load_environment((runs_dir or Path()) / folder))
        except (BrokenRecordError, OSError):
            continue
    return found


def told(environment: Environment) -> dict[str, str]:
    """Say what a reader asks of an environment; empty texts for what is not recorded."""
    packages = _mapping(environment.get("packages"))
    versions = {"Python": environment.get("python"), **{n: packages.get(n) for n in PACKAGES}}
    return {
        "machine": _machine(environment),
        "code": _code(_mapping(environment.get("code"))),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items() if version),
        "date": str(environment.get("date") or ""),
    }


def facts(found: Sequence[Environment]) -> list[str]:
    """Say it of all runs together: what they share, and of what they do not how many there are.

    Example:
        >>> one = {"cpu_model": "A", "python": "3.11.7", "code": {"commit": "0123456789"}}
        >>> facts([{**one, "date": "2026-11-28"}, {**one, "cpu_model": "B", "date": "2026-11-29"}])
        ['2 machines', '2026-11-28 to 2026-11-29', 'commit 0123456', 'Python 3.11.7']
    """
    each = [told(environment) for environment in found]
    values = {
        key: sorted({one[key] for one in each} - {""})
        for key in ("machine", "date", "code", "versions")
    }
    said = {
        key: of[0] if len(of) == 1 else f"{len(of)} {_SEVERAL[key]}"
        for key, of in values.items()
        if of
    }
    if len(values["date"]) > 1:
        said["date"] = f"{values['date'][0]} to {values['date'][-1]}"
    if values["date"] and not all(one["date"] for one in each):  # older records tell none
        said["date"] = f"until {values['date'][-1]}"
    return list(said.values())


_SEVERAL = {
    "machine": "machines",
    "date": "days",
    "code": "versions of the code",
    "versions": "sets of versions",
}


def _machine(environment: Environment) -> str:
    model = str(environment.get("cpu_model") or environment.get("processor") or "")
    cores = environment.get("cpu_count")
    host = f"{model}, {cores} cores" if model and isinstance(cores, int) else model
    device = str(environment.get("device") or "cpu")
    count = _mapping(environment.get("processes")).get("count")
    several = f"{count} x " if isinstance(count, int) and count > 1 else ""
    return host if device == "cpu" else ", ".join(filter(None, [f"{several}{device}", host]))


def _code(code: Environment) -> str:
    commit = str(code.get("commit") or "")[:7]
    changed = ", with uncommitted changes" if code.get("uncommitted_changes") else ""
    return f"commit {commit}{changed}" if commit else ""


def _mapping(value: Any) -> Environment:
    return value if isinstance(value, Mapping) else {}
