"""A checkpoint that came from elsewhere is tensors and numbers: nothing in it is called."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.engine import checkpoint
from experiments.records.schema import BrokenRecordError


class Trap:
    """What makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.mark,)


def state(**further: Any) -> dict[str, Any]:
    return {"run_id": "a", "state": {"counters": {"step": 3}, **further}}


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    (tmp_path / "c.pt").write_bytes(checkpoint.dump("a", state()["state"]))
    assert checkpoint.load(tmp_path / "c.pt", "a") == {"counters": {"step": 3}}


@pytest.mark.parametrize("write", ["torch", "pickle"])
def test_no_object_of_it_is_made(tmp_path: Path, write: str) -> None:
    path, mark = tmp_path / "c.pt", tmp_path / "mark"
    content = state(trap=Trap(mark))
    if write == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(BrokenRecordError, match=r"c\.pt: damaged"):
        checkpoint.load(path, "a")
    assert not mark.exists()
    torch.load(path, weights_only=False) if write == "torch" else pickle.loads(path.read_bytes())
    assert mark.exists()  # the trap is one


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"run_id": "a"},
        {"run_id": "a", "state": 5},
        {"run_id": "a", "state": {}},
        {"run_id": "a", "state": {"counters": {"step": "last"}}},
    ],
)
def test_one_of_another_layout_is_damaged(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(BrokenRecordError, match=r"c\.pt: damaged"):
        checkpoint.load(tmp_path / "c.pt", "a")
