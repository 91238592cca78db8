"""The code of a record: a temporary checkout of it, and the command that makes one by hand."""

import contextlib
import hashlib
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.records.reading import read_bytes
from experiments.records.schema import PATCH_FILE
from experiments.system.checkout import ROOT, git
from experiments.system.output import say


@contextlib.contextmanager
def recorded(code: Mapping[str, Any], record: Path, *, trusted: bool) -> Iterator[Path]:
    """Make a worktree at the recorded commit with the recorded patch, gone when the context ends.

    Args:
        code: What the record's environment says of its code.
        record: The record's folder.
        trusted: Whether the patch, which is shown, may be applied: it is code of whoever made the
            record.

    Yields:
        The folder of the code.

    Raises:
        UserError: If that code cannot be had from here.
    """
    commit, patch = _commit(code), _patch(code, record)
    if patch:
        _show(patch)
        if not trusted:
            raise UserError(
                f"code=recorded: {record / PATCH_FILE}, shown above, is code that would be run. "
                "Where you trust who made the record, add trust=true."
            )
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        tree = Path(folder) / "code"
        # A hook of the user's checkout has nothing to do with this one.
        add = ("-c", "core.hooksPath=", "worktree", "add", "--quiet", "--detach")
        if git(ROOT, *add, str(tree), commit) is None:
            raise UserError(f"code=recorded: git cannot check out {commit} of {ROOT}.")
        try:
            if patch and git(tree, "apply", "--whitespace=nowarn", stdin=patch) is None:
                raise UserError(f"code=recorded: {record / PATCH_FILE} does not apply to {commit}.")
            yield tree
        finally:
            git(ROOT, "worktree", "remove", "--force", str(tree))


def _show(patch: bytes) -> None:
    """Print a patch, as a text of somebody else's."""
    say(*patch.decode(errors="replace").replace("\t", "    ").split("\n"))


def by_hand(code: Mapping[str, Any], record: Path) -> str | None:
    """Give the command that checks the recorded code out beside this one; None if there is none."""
    if code.get("commit") is None:
        return None
    tree = shlex.quote(str(ROOT.parent / f"replay-{record.name}"))
    command = f"git worktree add --detach {tree} {code['commit']}"
    if (record / PATCH_FILE).exists():
        command += f" && git -C {tree} apply {shlex.quote(str((record / PATCH_FILE).absolute()))}"
    return command


def lost_changes(code: Mapping[str, Any], record: Path) -> bool:
    """Tell whether the run was made with changes that its record does not hold."""
    return bool(code.get("uncommitted_changes")) and not (record / PATCH_FILE).exists()


def _commit(code: Mapping[str, Any]) -> str:
    commit = code.get("commit")
    if commit is None:
        raise UserError("code=recorded: the record names no commit. Use code=current.")
    if git(ROOT, "cat-file", "-e", f"{commit}^{{commit}}") is None:
        raise UserError(
            f"code=recorded: commit {commit} is not in {ROOT}. Fetch it, or use code=current."
        )
    return str(commit)


def _patch(code: Mapping[str, Any], record: Path) -> bytes:
    path = record / PATCH_FILE
    if not path.exists():
        return b""
    patch = read_bytes(path)
    if hashlib.sha256(patch).hexdigest() != code.get("patch_sha256"):
        raise UserError(f"code=recorded: {path} is not the patch that the record names.")
    return patch
