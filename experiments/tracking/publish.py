"""Mirror the report: `python -m experiments publish out=out runs_dir=runs [tracking=...]`.

The tables ``OUT/tables/*.csv`` and the figures ``OUT/figures/*.png`` go into one run of the mirror,
of job type `report`, the same one at every call for the same runs. No mirror takes the SVGs that a
report draws: the PNGs are of `make figures`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.config import arguments, commandline, compose
from experiments.config.run_config import RunConfig
from experiments.errors import UserError
from experiments.records.store import RunFolder
from experiments.system.output import say
from experiments.tracking import mirror

REPORT_DIR = ".report"


def publish(out: Path, config: RunConfig) -> str:
    """Mirror the tables and figures of ``out``.

    Args:
        out: Folder that the report was written to.
        config: ``runs_dir`` and ``tracking``.

    Returns:
        One line that tells what was done.

    Raises:
        UserError: If there is nothing to mirror, or the mirror fails.
    """
    tables, figures = sorted(out.glob("tables/*.csv")), sorted(out.glob("figures/*.png"))
    if not tables and not figures:
        raise UserError(
            f"Nothing to publish in {out}: `make report figures` writes tables and figures."
        )
    tracking, runs_dir = config.tracking, config.runs_dir
    if tracking.get("_target_") is None:
        return "published nothing: tracking=none"
    mirror.check(tracking)
    what = f"{_count(tables, 'table')} and {_count(figures, 'figure')} of {out}"
    with RunFolder(runs_dir, REPORT_DIR).lock():
        (runs_dir / REPORT_DIR).mkdir(exist_ok=True)
        try:
            opened = mirror.start(tracking, _subject(runs_dir, tracking.get("project")))
            for path in tables:
                opened.table(path.stem, path)
            for path in figures:
                opened.figure(path.stem, path)
            opened.finish({}, failed=False)
        except Exception as error:
            raise UserError(f"The report could not be published: {error}") from error
    lacks = "" if figures else "; `make figures` draws figures that can be mirrored"
    return opened.outcome(what) + lacks


def _count(items: list[Path], noun: str) -> str:
    return f"{len(items)} {noun}" + ("" if len(items) == 1 else "s")


def _subject(runs_dir: Path, project: str | None) -> mirror.Subject:
    digest = hashlib.sha256(f"{runs_dir}\n{project}".encode()).hexdigest()[:12]
    return mirror.Subject(
        id=f"report-{digest}",
        name=f"report of {runs_dir.name}",
        group="report",
        job_type="report",
        tags=["report"],
        folder=runs_dir / REPORT_DIR,
    )


@dataclass(frozen=True)
class PublishOptions:
    """Where the report is."""

    out: Path = Path("out")

    def __post_init__(self) -> None:
        commandline.folder("out", self.out)


def main(words: Sequence[str]) -> int:
    """Mirror one report and say so in one line; returns the exit code."""
    options, overrides = arguments.parse(words, PublishOptions, further=True)
    say(publish(options.out, compose.composed(commandline.normalise(overrides))))
    return 0
