"""The mirror to TensorBoard: event files in ``<run>/tensorboard/``, for `tensorboard --logdir`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.tracking.mirror import Mirror, Row, Subject

FOLDER = "tensorboard"


class TensorBoardMirror(Mirror):
    """Mirrors every number of a row as a scalar at the row's step."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def outcome(self, what: str) -> str:
        """Say where it went."""
        return f"published {what} under {self._writer.log_dir}"

    def log(self, row: Row) -> None:
        """Write one row to the disk."""
        step = int(row["step"])
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float):
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def table(self, name: str, path: Path) -> None:
        """Write a table as text."""
        import pandas

        frame = pandas.read_csv(path)
        cells = [list(frame.columns), ["---"] * len(frame.columns), *frame.values.tolist()]
        lines = (" | ".join(str(cell).replace("|", r"\|") for cell in row) for row in cells)
        self._writer.add_text(f"tables/{name}", "\n".join(f"| {line} |" for line in lines))

    def figure(self, name: str, path: Path) -> None:
        """Write a figure as an image."""
        import numpy
        from PIL import Image

        with Image.open(path) as image:
            pixels = numpy.asarray(image.convert("RGB"))
        self._writer.add_image(f"figures/{name}", pixels, dataformats="HWC")

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """Write the summary as text and close the files."""
        if summary:
            self._writer.add_text("summary", _block({"failed": failed, **summary}))
        self._writer.close()


def start(*, subject: Subject) -> Mirror:
    """Start the mirror; what earlier attempts wrote is purged, as their rows come again."""
    from torch.utils.tensorboard import SummaryWriter  # takes seconds

    folder = subject.folder / FOLDER
    purge_step = 0 if folder.exists() else None
    writer = SummaryWriter(str(folder), purge_step=purge_step)
    mirror = TensorBoardMirror(writer)
    about = {"name": subject.name, "group": subject.group, "job_type": subject.job_type}
    writer.add_text("identity", _block({**about, **subject.identity}))
    writer.add_text("config", _block(subject.config))
    return mirror


def _block(value: Mapping[str, Any]) -> str:
    """As JSON, indented by four spaces: Markdown's code."""
    lines = json.dumps(value, indent=2, default=str).splitlines()
    return "\n".join(f"    {line}" for line in lines)
