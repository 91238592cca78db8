"""The error that a user can cause, and how it is shown: one line and exit code 2."""

import contextlib
import errno
import sys
from collections.abc import Iterator

_DISK_FAULTS = (errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS)
_LONGEST = 400  # letters that a line has of an error of a library


class UserError(Exception):
    """A mistake in what the user asked for; the message is one line.

    The line says what was wrong, the value, and what is allowed.
    """


def refusal(error: Exception) -> str | None:
    """Make the line that tells the user of ``error``; ``None`` if it is no mistake of theirs."""
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in _DISK_FAULTS:
        where = f" {error.filename}" if error.filename else ""
        return f"cannot write{where}: {error.strerror}. What is already recorded is kept."
    return None


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
        print(f"error: {line}", file=sys.stderr, flush=True)
        sys.exit(2)
