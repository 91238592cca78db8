"""An earlier build of the project beside this one: its checkout, and its optimizer as a package."""

import contextlib
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from experiments.errors import UserError

ROOT = Path(__file__).parents[2]
PACKAGE = "adafisher"


@contextlib.contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """Check a commit out, until the block ends.

    Raises:
        UserError: If there is no such commit.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "before"
        git = ["git", "-C", str(ROOT), "worktree"]
        made = subprocess.run(
            [*git, "add", "--detach", str(tree), commit],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise UserError(f"Invalid before: {commit!r}. {made.stderr.strip().splitlines()[-1]}")
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=False)


def optimizer_of(tree: Path) -> ModuleType:
    """Import ``adafisher`` of a checkout, which stays another package than this build's."""
    ours = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_optimizer(name)}
    sys.path.insert(0, str(tree))
    importlib.invalidate_caches()
    try:
        return importlib.import_module(PACKAGE)
    finally:
        sys.path.remove(str(tree))
        for name in [name for name in sys.modules if _is_optimizer(name)]:
            del sys.modules[name]
        sys.modules.update(ours)


def _is_optimizer(name: str) -> bool:
    return name.partition(".")[0] == PACKAGE
