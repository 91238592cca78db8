"""The suite's commands in this process, ended as the command line ends them."""

import pytest

from experiments.__main__ import main
from experiments.config import arguments


def exit_code(verb: str, *words: object) -> int:
    """Run a verb, and return the exit code of the process that it would be."""
    with pytest.raises(SystemExit) as ended:
        arguments.command(main, [verb, *map(str, words)])
    assert ended.value.code is None or isinstance(ended.value.code, int)
    return ended.value.code or 0
