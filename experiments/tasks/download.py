"""Fetching files over the network: resumed where they broke off, verified, then put in place."""

import hashlib
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from experiments.errors import UserError
from experiments.tasks.source import Remote, Source
from experiments.tasks.unpack import unpack

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 30.0
ATTEMPTS = 4
PAUSE_SECONDS = 2.0
"""Between the first two attempts; each further pause is twice as long."""

_CHUNK = 1 << 20
_REPORT_SECONDS = 10.0


class _BrokenOffError(Exception):
    """The connection ended before the file did; it is worth another try."""


class _NoConnectionError(_BrokenOffError):
    """There was no connection at all; worth another try only if there was one before."""


def fetch(source: Source, data_dir: Path, *, notify: Callable[[str], None] = logger.info) -> None:
    """Fetch every file of a data set that is not there yet, and unpack its archives.

    Args:
        source: What to fetch.
        data_dir: The data folder; made where it is missing.
        notify: Takes lines on the progress.

    Raises:
        UserError: If there is nothing to fetch, no network, a wrong file, or a bad archive.
    """
    if not source.files:
        raise UserError(f"{source.title} cannot be fetched for you. {source.manual}")
    for remote in source.files:
        path = fetch_file(remote, data_dir, notify=notify)
        if remote.unpack:
            notify(f"unpacking {path}")
            unpack(path, data_dir)
            path.unlink()


def fetch_file(remote: Remote, data_dir: Path, *, notify: Callable[[str], None]) -> Path:
    """Fetch one file, or find it in place.

    What has arrived lies in ``<name>.part`` until it is whole and verified; a later call goes on
    from there, if the server can.

    Returns:
        Where the file is.

    Raises:
        UserError: If it cannot be had, or is another one than expected.
    """
    path = data_dir / remote.path
    if path.exists() and _digest(path, remote.checksum) == remote.checksum:
        notify(f"{path} is there and verified")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    for attempt in range(ATTEMPTS):
        try:
            _receive(remote.url, part, notify)
            break
        except _BrokenOffError as error:
            reason = " ".join(str(error).split())
            notify(f"{remote.url}: {reason}")
            if attempt == ATTEMPTS - 1 or (attempt == 0 and isinstance(error, _NoConnectionError)):
                kept = part.stat().st_size if part.exists() else 0
                tail = (
                    f"{kept:,} bytes are kept; the same command goes on from there" if kept else ""
                )
                raise UserError(
                    f"{remote.url} could not be fetched to {path}: {reason}. {tail}".rstrip()
                ) from None
            time.sleep(PAUSE_SECONDS * 2**attempt)
    found = _digest(part, remote.checksum)
    if found != remote.checksum:
        size = part.stat().st_size
        part.unlink()
        raise UserError(
            f"{remote.url} gave {size:,} bytes with {found}, expected {remote.checksum}: not the "
            "published file. It was removed; try again, or put a good copy there yourself."
        )
    part.replace(path)
    return path


def _receive(url: str, part: Path, notify: Callable[[str], None]) -> None:
    """Append what is missing to ``part``."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    # An encoding on the way would make the ranges those of other bytes.
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity", **headers})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            _append(response, part, have, notify)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # the part is as long as the file, or longer
            if not _is_whole(error, have):
                part.unlink()
                raise _BrokenOffError("what was kept of it does not fit; starting anew") from None
            return
        if error.code in (408, 429) or error.code >= 500:
            raise _BrokenOffError(f"the server answers {error.code} {error.reason}") from None
        raise UserError(f"{url} could not be fetched: {error.code} {error.reason}.") from None
    except urllib.error.URLError as error:
        raise _NoConnectionError(f"no connection ({error.reason})") from None
    except (TimeoutError, ConnectionError, HTTPException) as error:
        raise _BrokenOffError(f"no answer ({error or type(error).__name__})") from None


def _append(response: HTTPResponse, part: Path, have: int, notify: Callable[[str], None]) -> None:
    if have and response.status != 206:  # the server sends the whole file again
        have = 0
    length = response.headers.get("Content-Length")
    total = have + int(length) if length is not None else None
    shown = time.monotonic()
    with part.open("ab" if have else "wb") as stream:
        while True:
            try:
                block = response.read(_CHUNK)
            except (OSError, HTTPException) as error:
                raise _BrokenOffError(f"the connection broke off ({error})") from None
            if not block:
                break
            stream.write(block)
            have += len(block)
            if time.monotonic() - shown > _REPORT_SECONDS:
                shown = time.monotonic()
                notify(f"{have / 1e6:,.0f} MB" + (f" of {total / 1e6:,.0f} MB" if total else ""))
    if total is not None and have < total:
        raise _BrokenOffError(f"the connection broke off after {have:,} of {total:,} bytes")


def _is_whole(error: urllib.error.HTTPError, have: int) -> bool:
    """Tell whether the server says that the file has just the bytes that are there."""
    return str(error.headers.get("Content-Range", "")).rpartition("/")[2] == str(have)


def _digest(path: Path, checksum: str) -> str:
    """Checksum of the file, of the kind of ``checksum``."""
    kind = checksum.partition(":")[0]
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False))
    return f"{kind}:{digest.hexdigest()}"
