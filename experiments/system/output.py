"""The way out: what is shown of names, records and messages, and where a line goes.

Text of a record or of somebody else's error may hold what a terminal obeys, what turns the reading
direction, or half of a character. It is shown by its escape. Standard library only.
"""

import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

# C0, DEL and C1 controls, soft hyphen, marks that show nothing or turn the direction, separators of
# lines that are no line feed, variation tags, and the halves of surrogate pairs.
_HIDDEN = (
    "\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f"
    "\ud800-\udfff"
)
_IN_A_LINE = re.compile(f"[{_HIDDEN}]")
_IN_A_TEXT = re.compile(f"(?![\n\t])[{_HIDDEN}]")


def plain(text: str) -> str:
    r"""Show every character that shows nothing itself by its escape, but line feeds and tabs.

    Example:
        >>> print(plain("\x1b[31m5 µs ± 1\x9b2J\u202ecba"))
        \x1b[31m5 µs ± 1\x9b2J\u202ecba
    """
    return _IN_A_TEXT.sub(_escape, text)


def plain_line(text: str) -> str:
    r"""Show also line feeds and tabs by their escapes, where text is to stay in its line.

    Example:
        >>> print(plain_line("sgd\nerror: none\u2028\ud800"))
        sgd\nerror: none\u2028\ud800
    """
    return _IN_A_LINE.sub(_escape, text)


def plain_values(value: Any) -> Any:
    """Clean every text within mappings and lists, by ``plain_line``."""
    if isinstance(value, str):
        return plain_line(value)
    if isinstance(value, Mapping):
        return {plain_values(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(plain_values, value))
    return value


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def say(*lines: object, error: bool = False) -> None:
    """Show lines, each of which stays one line.

    Raises:
        OSError: If standard output does not take them; standard error is never worth a run.
    """
    text = "".join(f"{plain_line(str(line))}\n" for line in lines)
    if error:
        with contextlib.suppress(OSError):
            print(text, end="", file=sys.stderr, flush=True)
        return
    with _standard_output() as stream:
        print(text, end="", file=stream, flush=True)


def flush() -> None:
    """Write out what was shown on standard output.

    Raises:
        OSError: With the file name ``standard output``, if that does not take it, as on a full
            disk; what follows is dropped. Nothing is raised where nobody reads any more.
    """
    with _standard_output() as stream:
        stream.flush()


@contextlib.contextmanager
def aside(*, active: bool = True) -> Iterator[None]:
    """Send what is shown meanwhile, by this process and its children, to standard error.

    Standard output is then free for what a program reads.

    Args:
        active: Whether to do so at all.
    """
    if not active:
        yield
        return
    flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextlib.contextmanager
def _standard_output() -> Iterator[TextIO]:
    try:
        yield sys.stdout
    except OSError as error:
        with contextlib.suppress(OSError, io.UnsupportedOperation):
            _drop(sys.stdout.fileno())  # or the interpreter tries, and complains, once more
        if error.errno != errno.EPIPE:
            raise OSError(error.errno, error.strerror, "standard output") from error


class _Forgiving:
    """Standard error that drops what its file does not take: a full disk must not end a run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def prepare() -> None:
    """Give this process standard streams that take every line, whatever it was started with.

    A closed one stands open to the null device from now on: otherwise the next file that is opened
    has its number, and gets what libraries and child processes write there.
    """
    os.environ.pop("MPLBACKEND", None)  # a notebook's need not be installed; no window is opened
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            _drop(number)
    # Closed when the interpreter began, they are None.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without "±" ends nothing
    if not isinstance(sys.stderr, _Forgiving):
        sys.stderr = _Forgiving(sys.stderr)


def _drop(number: int) -> None:
    """Let a file descriptor be the null device, for child processes too."""
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)
    os.set_inheritable(number, True)
