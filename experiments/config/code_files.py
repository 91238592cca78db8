"""Python files outside the checkout, which a config names by path and checksum under ``files``.

Only what is typed comes there (``named.py``). The key is part of no record, so that a record never
causes a file to be run.
"""

import hashlib
import importlib.util
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from experiments.errors import UserError, one_line

Files = Mapping[str, Mapping[str, str]]

_SHA256, _DRAWS = "__sha256__", "__draws__"


def describe(path: Path) -> dict[str, str]:
    """Name a file as a config does: where it is, and the sha256 of what is in it."""
    return {"path": str(path), "sha256": _digest(path.read_bytes())}


def load(files: Files | None) -> None:
    """Run the files, each as the module that it is called; one that is loaded is left alone.

    Args:
        files: By name of the module, what ``describe`` gives.

    Raises:
        UserError: If a file is not as it was, cannot be run, or has the name of another module.
    """
    for name, file in (files or {}).items():
        path = Path(file["path"])
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"Cannot read {path}: {error.strerror}.") from error
        if _digest(content) != file["sha256"]:
            raise UserError(f"{path} has changed since the command began. Give it again.")
        loaded = sys.modules.get(name)
        if getattr(loaded, _SHA256, None) != file["sha256"]:
            _check_free(name, path, loaded)
            _run(name, path, content)


def names_generators(module: str) -> bool:
    """Tell whether a module is a file that was typed and names numpy's or Python's generators."""
    return getattr(sys.modules.get(module), _DRAWS, False)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _check_free(name: str, path: Path, loaded: ModuleType | None) -> None:
    if hasattr(loaded, _SHA256):  # a file that was typed earlier
        return
    found = getattr(loaded, "__spec__", None) if loaded else importlib.util.find_spec(name)
    if loaded is None and found is None:
        return
    if found is None or found.origin is None or Path(found.origin).resolve() != path.resolve():
        raise UserError(
            f"Invalid file: {path}. There is a module {name!r} already: give the file another name."
        )


def _run(name: str, path: Path, content: bytes) -> None:
    """Run a file as a module, of the very bytes whose checksum was taken.

    What it draws as it is run, as data that it makes up, is the same in every process.
    """
    from experiments import seeding  # loads torch, as the file does

    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # its name ends with .py
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:  # what it imports may lie beside it
        sys.path.append(str(path.parent))
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        with seeding.fixed("file", name):
            exec(compile(content, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name)
        if before is not None:
            sys.modules[name] = before
        said = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(f"{path}: it cannot be run; {said.rstrip('.')}.") from error
    setattr(module, _SHA256, _digest(content))
    setattr(module, _DRAWS, re.search(rb"\b(numpy|random)\b", content) is not None)
