"""Where a run ran: versions, machine, code, data checksums."""

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.engine import determinism
from experiments.engine.machine import PACKAGES, describe_machine, device_name
from experiments.records.schema import (
    ENVIRONMENT_FILE,
    PATCH_FILE,
    BrokenRecordError,
    load_environment,
)
from experiments.records.store import RunFolder
from experiments.system import checkout

if TYPE_CHECKING:
    from experiments.engine.built import Built


def describe(built: "Built") -> dict[str, Any]:
    """Facts that a reader needs to repeat the run; all processes of the run have to call."""
    world = built.world
    machine = describe_machine(built.device)
    machine["packages"] |= _package_of(type(built.optimizer))
    return machine | {
        "processes": {
            "count": world.size,
            "distributed": built.strategy,
            "devices": world.gather(device_name(built.device)),
        },
        "precision": built.precision.facts(),
        "deterministic": determinism.facts(),
        "compile": built.compiled,
        "channels_last": built.channels_last,
        "data_sha256": built.task.checksums | getattr(built.model, "checksums", {}),
        "pretrained": built.pretrained and built.pretrained.facts(),
    }


def _package_of(kind: type) -> dict[str, str]:
    """Give the version of the package that an optimizer's class is from, if it is installed."""
    top = kind.__module__.partition(".")[0]
    if top in ("adafisher", "experiments", "torch"):
        return {}
    if top.replace("_", "-") in PACKAGES:
        return {}
    names = metadata.packages_distributions().get(top, [])  # a quarter of a second
    return {name: metadata.version(name) for name in names}


def save(folder: RunFolder, facts: Mapping[str, Any], *, resumed: bool) -> None:
    """Write the environment and the day, and beside it the uncommitted part of the code as a patch.

    Args:
        folder: The run's folder.
        facts: What ``describe`` tells.
        resumed: Whether the run goes on from a checkpoint: then the versions of the code that made
            its first part stay named, under ``earlier_code``.
    """
    earlier = _codes(folder.path) if resumed else []
    others = [code for code in earlier if code != facts["code"]]
    dated = {"date": datetime.now(UTC).date().isoformat(), **facts}
    folder.write_json(ENVIRONMENT_FILE, {**dated, "earlier_code": others} if others else dated)
    patch = checkout.version().patch_to_keep()
    if patch is None:
        (folder.path / PATCH_FILE).unlink(missing_ok=True)
    else:
        folder.write(PATCH_FILE, patch)


def _codes(folder: Path) -> list[Any]:
    """List the versions of the code that an earlier attempt names, in order."""
    try:
        known = load_environment(folder)
    except BrokenRecordError:
        return []
    return [*known.get("earlier_code", []), known.get("code")]
