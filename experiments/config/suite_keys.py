"""What only the suite reads of a section, under ``suite:``: the keys, their kinds and defaults.

A file may leave out every one of them. ``name`` is then the stem of the file.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.config.nearest import nearest
from experiments.errors import UserError

SUITE = "suite"


@dataclass(frozen=True)
class SuiteKey:
    """One key: what its value must be, and what stands for it where it is left out."""

    kind: type
    default: Any = None
    nullable: bool = False

    def is_allowed(self, value: Any) -> bool:
        """Tell whether a value is of the kind; a truth value is no number."""
        if value is None:
            return self.nullable
        return isinstance(value, self.kind) and isinstance(value, bool) == (self.kind is bool)

    @property
    def wanted(self) -> str:
        """The kind in words."""
        return _WORDS[self.kind] + (", or null" if self.nullable else "")


_WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    Mapping: "a mapping",
}
_COMMON = {
    "name": SuiteKey(str),  # the stem of the file
    "published_as": SuiteKey(str, nullable=True),
    "neutral": SuiteKey(Mapping, {}),
}
KEYS: dict[str, dict[str, SuiteKey]] = {
    "optimizer": {
        **_COMMON,
        "family": SuiteKey(str),  # its name
        "needs": SuiteKey(Mapping, {}),
        "ema": SuiteKey(float, nullable=True),
        "steps": SuiteKey(str, nullable=True),
        "refresh": SuiteKey(str, nullable=True),  # left out: by the names of the arguments
        "shardable": SuiteKey(bool, False),
        "split": SuiteKey(Mapping, {}),
        "form": SuiteKey(str, nullable=True),
        "control": SuiteKey(Mapping, nullable=True),
        "search": SuiteKey(Mapping, {}),
        "coordinates": SuiteKey(Mapping, {}),
        "nullable": SuiteKey(list, []),
        "signed": SuiteKey(list, []),
        "real": SuiteKey(list, []),
        "sha256": SuiteKey(str, nullable=True),  # of the file that the class is in, outside conf/
        "schedule": SuiteKey(Mapping, nullable=True),
    },
    "task": {
        **_COMMON,
        "sha256": SuiteKey(str, nullable=True),  # of the file that it is, outside conf/
        "epochs": SuiteKey(int, nullable=True),
        "threads": SuiteKey(int, nullable=True),
    },
    "model": {
        **_COMMON,
        "parameters": SuiteKey(int, nullable=True),
        "weights": SuiteKey(str, nullable=True),
    },
    "schedule": _COMMON,
    "tokenization": _COMMON,
}
"""By section of the config; ``signed`` names hyperparameters that may be negative, ``real`` those
that may be any number though their default is a whole one."""


def checked(section: str, suite: Any) -> Mapping[str, Any]:
    """Return what a section has under ``suite``.

    Raises:
        UserError: If it is no mapping, or has a value of another kind.
    """
    if suite is None:
        return {}
    if not isinstance(suite, Mapping):
        raise UserError(f"Invalid {section}.{SUITE}: {suite!r}. Must be a mapping.")
    for key, known in KEYS[section].items():
        if key in suite and not known.is_allowed(suite[key]):
            raise UserError(
                f"Invalid {section}.{SUITE}.{key}: {suite[key]!r}. Must be {known.wanted}."
            )
    return suite


def check_spelling(section: str, suite: Mapping[str, Any]) -> None:
    """Refuse a key that is nearly a known one; any other new one is for whoever reads it.

    Raises:
        UserError: At the first.
    """
    known = KEYS[section]
    for key in suite:
        if key not in known and difflib.get_close_matches(str(key), known, n=1, cutoff=0.8):
            raise UserError(f"Unknown key: '{section}.{SUITE}.{key}'. {nearest(str(key), known)}")
