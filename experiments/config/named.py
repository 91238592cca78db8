"""What is typed in place of a name in ``conf/``: an installed name, a thing in a file, a YAML.

``optimizer=torch.optim.NAdam``, ``./mine.py:MyOptimizer`` and ``./mine.yaml`` are the three forms;
a task is a file, ``task=./mine.py`` or ``./mine.yaml``.
What is typed gets a label, which is its name everywhere, and is known in this process alone: a
record has the label, and nothing finds a file by it.
"""

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.errors import UserError

GROUPS = ("optimizer", "task")
"""Groups of ``conf/`` whose choice may be typed so."""
YAML = (".yaml", ".yml")
FORMS = {
    "optimizer": "an installed name as torch.optim.NAdam, or a file: ./mine.py:MyOptimizer, "
    "./mine.yaml",
    "task": "a file: ./mine.py, ./mine.yaml",
}

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_LABEL = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True)
class Named:
    """One choice that was typed.

    Attributes:
        group: Of ``conf/``.
        label: Its name: that of records, tables and files.
        path: The file, absolute; None of what is installed.
        name: What to take of the module; empty of a YAML, and where the file itself is meant.
    """

    group: str
    label: str
    path: Path | None
    name: str = ""

    @property
    def is_yaml(self) -> bool:
        """Whether it is a YAML, in place of code."""
        return self.path is not None and self.path.suffix in YAML

    @property
    def calls(self) -> tuple[str, str]:
        """What no other may be called: a module is one file, whatever is taken of it."""
        is_code = self.path is not None and not self.is_yaml
        return ("", str(self.path and self.path.stem)) if is_code else (self.group, self.label)

    @property
    def typed(self) -> str:
        """What makes it again, from any folder."""
        return self.label if self.path is None else _word(str(self.path), self.name)

    @property
    def kept(self) -> str:
        """The same as a record tells it: without the folder."""
        return self.label if self.path is None else _word(f"./{self.path.name}", self.name)


_NAMED: dict[tuple[str, str], Named] = {}


def labelled(group: str, value: str, shipped: Collection[str]) -> str:
    """Replace what is typed for a group by labels, and remember what they stand for.

    Args:
        group: The group.
        value: What is typed for it: names, commas between.
        shipped: Its names in ``conf/``.

    Raises:
        UserError: If a file is not there, or two are called the same.
    """
    return ",".join(_label(group, word.strip(), shipped) for word in value.split(","))


def get(group: str, label: str | None) -> Named | None:
    """Tell what a label stands for; None: a file of ``conf/``, or nothing."""
    return _NAMED.get((group, label or ""))


def remember(group: str, label: str, files: Mapping[str, Mapping[str, str]] | None) -> None:
    """Let a label be known in another process than that in which it was typed.

    Args:
        group: The group.
        label: The name of a section.
        files: Of its config: the Python files that it is built from, by name of the module.
    """
    stem, _, name = label.partition(".")
    file = (files or {}).get(stem)
    if file is not None and get(group, label) is None:
        _label(group, _word(file["path"], name), ())


def is_typed(word: str) -> bool:
    """Tell whether a word has one of the forms, in place of a name in ``conf/``."""
    return not _PLAIN.fullmatch(word)


def known(group: str) -> list[str]:
    """List the labels of a group."""
    return [label for of, label in _NAMED if of == group]


def everything() -> list[Named]:
    """List all that was typed."""
    return list(_NAMED.values())


def spelled(overrides: Iterable[str], *, kept: bool = False) -> list[str]:
    """Put what was typed in place of its label, for another process or for a record.

    Args:
        overrides: Those of a run or sweep.
        kept: Whether it is for a record.
    """
    return [_spelled(override, kept=kept) for override in overrides]


def _spelled(override: str, *, kept: bool) -> str:
    group, equals, value = override.partition("=")
    if group not in GROUPS or not known(group):
        return override
    found = [(name, get(group, name)) for name in value.split(",")]
    words = [name if one is None else (one.kept if kept else one.typed) for name, one in found]
    return f"{group}{equals}{','.join(words)}"


def _word(path: str, name: str) -> str:
    return f"{path}:{name}" if name else path


def _label(group: str, word: str, shipped: Collection[str]) -> str:
    if word in shipped or (group, word) in _NAMED:
        return word
    made = _read(group, word)
    if made is None:
        return word
    if made.label in shipped:
        raise UserError(
            f"Invalid {group}: {word!r}. conf/{group} has {made.label!r} already: give the file "
            "another name."
        )
    for other in _NAMED.values():
        if other.path != made.path and other.calls == made.calls:
            raise UserError(
                f"Invalid {group}: {word!r}. {other.typed} is called so already: give one of them "
                "another name."
            )
    _NAMED[group, made.label] = made
    return made.label


def _read(group: str, word: str) -> Named | None:
    """Read a word; None if it has none of the forms, and may be a name of ``conf/``."""
    if group == "optimizer" and _DOTTED.fullmatch(word) and not word.endswith((".py", *YAML)):
        return Named(group, word, None, word)
    text, _, name = word.rpartition(":") if ".py:" in word else (word, "", "")
    path = Path(os.path.abspath(Path(text).expanduser()))
    if path.suffix not in (".py", *YAML):
        if "/" in word or ":" in word:
            raise UserError(
                f"Invalid {group}: {word!r}. Must be {FORMS[group]}, or a name in conf/."
            )
        return None
    if not path.is_file():
        raise UserError(f"Invalid {group}: {word!r}. There is no file {text}.")
    label = f"{path.stem}.{name}" if name else path.stem
    if not _LABEL.fullmatch(label):
        raise UserError(
            f"Invalid {group}: {word!r}. Its name is {label!r}: must be letters, digits, _ and -."
        )
    return Named(group, label, path, name)


def forget(labels: Sequence[str] | None = None) -> None:
    """Forget what was typed, all of it or some labels."""
    for key in [key for key in _NAMED if labels is None or key[1] in labels]:
        del _NAMED[key]
