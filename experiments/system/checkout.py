"""The code that a process runs: its commit, and as a patch what is not committed."""

import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MOST_PATCH_BYTES = 4 * 2**20
"""A larger patch is data rather than code, and every run would keep a copy."""

# Of files that git does not know, those that a run may have read.
_UNTRACKED = tuple(
    f"{folder}/*.{ending}"
    for folder in ("adafisher", "conf", "experiments")
    for ending in ("py", "yaml")
)
# What a tuning writes while its trials run: values that each config holds, and no code.
_NO_CODE = (":(exclude,top)conf/tuned",)
# A user's settings of git must not change what the patch looks like.
_PLAIN_DIFF = (
    *("-c", "core.quotePath=true", "-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false"),
    *("diff", "HEAD", "--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv"),
)


@dataclass(frozen=True)
class Version:
    """A state of the code.

    Attributes:
        commit: What is checked out; None outside a git checkout.
        patch: What is changed or new since, for ``git apply``; None where it cannot be told.
    """

    commit: str | None
    patch: bytes | None

    def facts(self) -> dict[str, Any]:
        """Give what the record says of the code; the patch itself is a file beside it."""
        facts: dict[str, Any] = {
            "commit": self.commit,
            "uncommitted_changes": None if self.patch is None else bool(self.patch),
        }
        if self.patch:
            facts["patch_sha256"] = hashlib.sha256(self.patch).hexdigest()
            facts["patch_bytes"] = len(self.patch)
        return facts

    def patch_to_keep(self) -> bytes | None:
        """Return the patch, if there is one and it is small enough to lie beside every run."""
        return self.patch if self.patch and len(self.patch) <= MOST_PATCH_BYTES else None


@functools.cache  # a process goes on with the code that it has loaded
def version(folder: Path = ROOT) -> Version:
    """Find the version of the checkout that ``folder`` is in."""
    commit = git(folder, "rev-parse", "HEAD")
    top = git(folder, "rev-parse", "--show-toplevel")
    if commit is None or top is None:
        return Version(None, None)
    return Version(commit.decode().strip(), _patch(Path(os.fsdecode(top.rstrip(b"\n")))))


def git(
    folder: Path,
    *arguments: str,
    stdin: bytes = b"",
    variables: Mapping[str, str] | None = None,
) -> bytes | None:
    """Read what a git command prints; None where it fails or there is no git."""
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments],
            input=stdin,
            capture_output=True,
            timeout=60,
            check=True,
            env=os.environ | (variables or {}),
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _patch(top: Path) -> bytes | None:
    new = git(top, "ls-files", "-z", "--others", "--exclude-standard", "--", *_UNTRACKED, *_NO_CODE)
    index = git(top, "rev-parse", "--git-path", "index")
    if new is None or index is None:
        return None
    # New files count as changes once they are announced in an index: in a copy, not the user's.
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "index"
        shutil.copy(top / os.fsdecode(index.rstrip(b"\n")), copy)
        own = {"GIT_INDEX_FILE": str(copy)}
        if new:
            announce = ("add", "--intent-to-add", "--pathspec-from-file=-", "--pathspec-file-nul")
            if git(top, "--literal-pathspecs", *announce, stdin=new, variables=own) is None:
                return None
        return git(top, *_PLAIN_DIFF, "--", ":(top)", *_NO_CODE, variables=own)
