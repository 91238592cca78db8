import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import analysis.figures
from analysis.report.report import names_of

WriteRun = Callable[..., Path]


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


@pytest.fixture
def write_run(runs_dir: Path, writer_to: Callable[[Path], WriteRun]) -> WriteRun:
    return writer_to(runs_dir)


@pytest.fixture(scope="session")
def draw_only() -> Callable[..., None]:
    """Spare the time to draw every figure: all go the same way through the report."""

    def few(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        assert set(names) < set(names_of(analysis.figures))
        monkeypatch.setattr(
            "analysis.report.report.names_of",
            lambda package: list(names) if package is analysis.figures else names_of(package),
        )

    return few


@pytest.fixture(scope="session")
def writer_to() -> Callable[[Path], WriteRun]:
    return _writer_to


def _writer_to(runs_dir: Path) -> WriteRun:
    """Write a record as plain JSON; ``values`` is the test metric, an epoch each.

    With a ``protocol`` (and ``origin``) it is one of the present schema, else of the first.
    """

    def write(
        optimizer: str = "adam",
        seed: int = 0,
        values: tuple[float, ...] = (90.0, 95.0),
        *,
        status: str = "done",
        reason: str | None = None,
        rows: list[dict[str, Any]] | None = None,
        run_id: str | None = None,
        seconds: float = 1.0,
        summary: dict[str, Any] | None = None,
        **identity: Any,
    ) -> Path:
        identity = {
            "task": "digits",
            "dataset": "digits",
            "model": "small_cnn",
            "setting": "scratch",
            "optimizer": optimizer,
            "family": optimizer,
            "ruleset": "tuned",
            "budget": "2 epochs",
            "seed": seed,
            "metric": "accuracy_percent",
            "higher_is_better": True,
            "unit": "images",
            "validation": False,
            "hyperparameters": {"lr": 0.001},
            "published_as": {"optimizer": None, "model": None, "dataset": None},
            **identity,
        }
        parts = ("task", "model", "optimizer", "ruleset", "budget", "hyperparameters")
        group_id = "-".join(str(identity[part]) for part in parts)
        if "protocol" in identity:
            protocol = json.dumps(identity["protocol"], sort_keys=True)
            group_id += f"-{hashlib.sha256(protocol.encode()).hexdigest()[:6]}"
        identity.setdefault("group_id", group_id)
        content_id = hashlib.sha256(f"{identity['group_id']} {seed}".encode()).hexdigest()[:12]
        run_id = run_id or content_id
        metric = identity["metric"]
        if rows is None:
            rows = [
                {
                    "step": 10 * epoch,
                    "epoch": float(epoch),
                    "train_seconds": seconds * epoch,
                    "train_loss": 2.0 / epoch,
                    f"test_{metric}": value,
                }
                for epoch, value in enumerate(values, start=1)
            ]
        folder = runs_dir / run_id
        folder.mkdir()
        schema = 2 if "protocol" in identity else 1
        content = {"schema": schema, "run_id": run_id, "status": status, "reason": reason}
        content |= {"identity": identity, "progress": {}, "summary": summary or {}}
        (folder / "status.json").write_text(json.dumps(content))
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return folder

    return write
