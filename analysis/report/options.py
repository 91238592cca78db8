"""Options of the report's commands: a mistake in one is one line and exit code 2."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from experiments.system.output import say


class ReportError(Exception):
    """A mistake of the caller, in one line."""


class OneLineParser(argparse.ArgumentParser):
    """A parser that says what was wrong without its whole usage; ``--help`` has that."""

    def error(self, message: str) -> NoReturn:
        """Print one line and end."""
        say(f"error: {' '.join(message.split())}. See --help.", error=True)
        sys.exit(2)


def add_folders(parser: argparse.ArgumentParser) -> None:
    """Add what every one of the commands takes."""
    for name, default, what in (
        ("--runs", "runs", "folder of the run records"),
        ("--out", "out", "folder to write to"),
    ):
        parser.add_argument(name, default=default, type=_named, help=what)


def add_look(parser: argparse.ArgumentParser) -> None:
    """Add how figures are to look."""
    for name, what in (
        ("--serif", "figures with serifs, as of Times"),
        ("--half", "figures of up to three panels as wide as half a text"),
    ):
        parser.add_argument(name, action="store_true", help=what)


def _named(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("must name a folder, and is empty")
    return Path(text)
