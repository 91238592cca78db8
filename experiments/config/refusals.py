"""The line that a user reads in place of what Hydra, OmegaConf and YAML raise: the one place."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

from experiments.config import commandline
from experiments.config.nearest import nearest
from experiments.errors import UserError, one_line

YAML_FORM = "Must be YAML: `key: value`, indented by spaces, each key once"
_ABOUT = re.compile(
    r"See \S*hydra\.cc\S*( for details)?\.?|\b(full_key|object_type|reference_type)\b.*"
)
_BY = re.compile(r"In '((?!train')[^']+)'")  # the file whose defaults list asks for it
_MERGED = re.compile(r"Error merging override (.*)")
_WHILE = re.compile(r"^\w+ raised while resolving interpolation: ")


@contextlib.contextmanager
def told(place: str = "") -> Iterator[None]:
    """Turn whatever reading and composing files raises into a ``UserError``.

    Nothing of ours runs in there, so every error is one of what was typed or written in a file.

    Args:
        place: What the line begins with where the error names no file and no key.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        line = _line(error)
        begins = place and not isinstance(error, InterpolationResolutionError)
        raise UserError(f"{place}: {line}" if begins else line) from error


def load(path: Path) -> dict[str, Any]:
    """Read a YAML file that is a mapping.

    Raises:
        UserError: If it is none; the line has the file and, where YAML tells it, the line.
    """
    with told():
        # OmegaConf's reader, as Hydra's: it takes 1e-3 for a number, and a key once.
        content: Any = OmegaConf.to_container(OmegaConf.load(path))
    if not isinstance(content, dict):
        raise UserError(f"{shown(path)}: it is a {type(content).__name__}. {YAML_FORM}.")
    return content


def shown(path: str | Path) -> str:
    """Name a file as the user sees it, from the root of the checkout if it is below it."""
    full, root = Path(path), commandline.CONF.parent
    return str(full.relative_to(root)) if full.is_relative_to(root) else str(full)


def line_of(path: Path, key: str) -> int | None:
    """Find the line, from 1, that a dotted key stands on in a YAML file; None if it is not there.

    Args:
        path: The file.
        key: As ``suite.needs``.
    """
    with contextlib.suppress(OSError, ValueError, yaml.YAMLError):
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        line = None
        for part in key.split("."):
            pairs = node.value if isinstance(node, yaml.MappingNode) else []
            match = next((pair for pair in pairs if pair[0].value == part), None)
            if match is None:
                return None
            line, node = match[0].start_mark.line + 1, match[1]
        return line
    return None


def _line(error: Exception) -> str:
    if isinstance(error, MissingConfigException):
        return _unknown_choice(error)
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f"{shown(mark.name)}, line {mark.line + 1}" if mark else "a YAML file"
        return f"{where}: {error.problem or one_line(error)}. {YAML_FORM}."
    if isinstance(error, yaml.reader.ReaderError):
        return f"{shown(error.name)}: it is no text ({error.reason}). {YAML_FORM}."
    if isinstance(error, UnicodeDecodeError):
        return f"{_undecodable()}: it is no text in UTF-8. {YAML_FORM}."
    if isinstance(error, InterpolationResolutionError):
        said = _WHILE.sub("", plain(error)).strip("\"'.")
        return f"Invalid {error.full_key}: {said}. It must refer to what is there."
    merged = _MERGED.match(plain(error))
    if merged and error.__cause__:
        why = plain(error.__cause__).rstrip(".")
        return f"Invalid argument: {merged[1]!r}. Must be a value that can stand there; {why}."
    return plain(error) or one_line(error)


def plain(error: BaseException) -> str:
    """Leave out of what Hydra says where its documentation is, and of OmegaConf its types."""
    lines = (_ABOUT.sub("", line).strip() for line in str(error).splitlines())
    return one_line(ValueError(" ".join(filter(None, lines)).replace("\n", " ")))


def _unknown_choice(error: MissingConfigException) -> str:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    known = (error.options or commandline.choices(group)) if group else []
    if not known:
        return plain(error)
    by = _BY.match(str(error))
    is_ours = by is not None and (commandline.CONF / f"{by[1]}.yaml").is_file()
    where = f"conf/{by[1]}.yaml: " if by and is_ours else ""
    return f"{where}Unknown {group}: {name!r}. {nearest(name, known)}"


def _undecodable() -> str:
    """Find the file below ``conf/`` that is no text; Python's error does not name it."""
    for path in sorted(commandline.CONF.rglob("*.yaml")):
        try:
            path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return shown(path)
        except OSError:
            continue
    return "a YAML file"
