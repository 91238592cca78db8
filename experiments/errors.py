"""The error that a user can cause, and how it is shown: one line and exit code 2."""

import contextlib
import errno
import functools
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from experiments.system.output import say

# Of a write, which does not say its file.
_UNNAMED = (
    *(errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC),
    *(errno.ENOTDIR, errno.EPERM, errno.EROFS),
)
_LONGEST = 400  # letters that a line has of an error of a library


class UserError(Exception):
    """A mistake in what the user asked for; the message is one line.

    The line says what was wrong, the value, and what is allowed.
    """


def refusal(error: Exception) -> str | None:
    """Make the line that tells the user of ``error``; ``None`` if it is no mistake of theirs."""
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and _is_of_the_disk(error):
        where = f" {os.fsdecode(error.filename)}" if error.filename else ""
        return f"cannot read or write{where}: {error.strerror}. What is already recorded is kept."
    return None


def _is_of_the_disk(error: OSError) -> bool:
    """Tell whether the system refused a file of the user's, whatever the reason.

    An error without a file may be one of the network or of a process; one of our own sources is a
    fault of the suite, and shows where.
    """
    if error.errno is None:
        return False
    if not isinstance(error.filename, str | bytes):
        return error.errno in _UNNAMED
    path = os.path.abspath(os.fsdecode(error.filename))
    return not any(path == source or path.startswith(source + os.sep) for source in _sources())


@functools.cache
def _sources() -> list[str]:
    """List the folders of ours and of Python's: what is not found there is no file of a user's."""
    own = [
        str(Path(__file__).parents[1] / name) for name in ("adafisher", "analysis", "experiments")
    ]
    return own + [sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib")]


def one_line(error: BaseException) -> str:
    """Say what an error of a library says in one line: all of it, or its first whole sentences."""
    text = " ".join(str(error).split()) or type(error).__name__
    if len(text) <= _LONGEST:
        return text
    end = text.rfind(". ", 0, _LONGEST)
    return text[: end + 1] if end > 0 else f"{text[:_LONGEST]}..."


@contextlib.contextmanager
def report_user_errors(*, quiet: bool = False) -> Iterator[None]:
    """Print a user's mistake, or a disk that refuses writes, as one line and exit with code 2.

    Args:
        quiet: Say nothing and exit with 0, as another process of the same run reports it.
    """
    try:
        yield
    except (UserError, OSError) as error:
        line = refusal(error)
        if line is None:
            raise
        if quiet:
            sys.exit(0)
        say(f"error: {line}", error=True)
        sys.exit(2)
