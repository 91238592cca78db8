"""Values of YAML files with their sources: the files state one in the comment on a value's line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf


def sourced(path: Path, section: str) -> dict[str, dict[str, Any]]:
    """Read the plain values of a section with their sources.

    Args:
        path: A YAML file.
        section: A key of its top level.

    Returns:
        For each key of the section that has a plain value: ``value``, and ``source``, the comment
        on its line, empty where there is none.
    """
    text = path.read_text(encoding="utf-8")
    values: Any = OmegaConf.to_container(OmegaConf.create(text))
    lines = text.splitlines()
    return {
        key: {"value": values[section][key], "source": _comment(lines[mark.line][mark.column :])}
        for key, mark in _ends(yaml.compose(text, Loader=yaml.SafeLoader), section)
    }


def _ends(root: yaml.Node | None, section: str) -> Iterator[tuple[str, yaml.Mark]]:
    """Find where each plain value of the section ends."""
    for key, node in _pairs(root):
        if key == section:
            for name, value in _pairs(node):
                if isinstance(value, yaml.ScalarNode):
                    yield name, value.end_mark


def _pairs(node: yaml.Node | None) -> Iterator[tuple[str, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        yield from ((str(key.value), value) for key, value in node.value)


def _comment(rest: str) -> str:
    """Find the comment in what follows a value on its line."""
    return rest.partition("#")[2].strip()
