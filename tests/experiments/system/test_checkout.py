"""The version of the code that a record keeps: its patch gives the working tree back."""

import json
import os
import subprocess

import pytest

from experiments.records.schema import PATCH_FILE
from experiments.records.store import RunFolder
from experiments.run import environment
from experiments.system import checkout


@pytest.fixture(autouse=True)
def own_git(monkeypatch, tmp_path):
    """Neither the settings of a user nor a repository around the test folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


def git(folder, *arguments):
    author = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    return subprocess.run(
        ["git", "-C", folder, *author, *arguments], check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "a repository"
    (folder / "experiments").mkdir(parents=True)
    (folder / "conf").mkdir()
    for name in ("experiments/one.py", "experiments/two.py", "README.md"):
        (folder / name).write_text(f"{name}\n")
    (folder / ".gitignore").write_text("ignored*\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "Begin")
    return folder


def test_a_clean_checkout_has_no_patch(repository):
    found = checkout.version(repository)
    assert found.commit == git(repository, "rev-parse", "HEAD").strip()
    assert found.patch_to_keep() is None
    assert found.facts() == {"commit": found.commit, "uncommitted_changes": False}


@pytest.mark.parametrize("setting", [None, "diff.noprefix", "color.diff"])
def test_the_patch_gives_the_working_tree_back(repository, tmp_path, setting):
    """Changed, deleted, staged, new and binary files; what is no code of ours stays out."""
    if setting:
        git(repository, "config", setting, "always" if "color" in setting else "true")
    (repository / "experiments/one.py").write_text("changed\n")
    (repository / "experiments/two.py").unlink()
    (repository / "README.md").write_bytes(b"\0binary\xff")
    (repository / "experiments/staged.py").write_text("staged\n")
    git(repository, "add", "experiments/staged.py")
    (repository / "experiments/new *é.py").write_text("new\n")
    (repository / "conf/new.yaml").write_text("new: 1\n")
    (repository / "experiments/ignored.py").write_text("no\n")
    (repository / "notes.txt").write_text("no\n")
    before = git(repository, "status", "--porcelain")

    patch = checkout.version(repository / "experiments").patch_to_keep()

    assert git(repository, "status", "--porcelain") == before  # the user's index is as it was
    again = tmp_path / "again"
    git(repository, "worktree", "add", "--detach", str(again), "HEAD")
    subprocess.run(["git", "-C", again, "apply"], input=patch, check=True)
    files = {
        os.fspath(path.relative_to(again)): path.read_bytes()
        for path in again.rglob("*")
        if path.is_file() and path.name not in (".git", ".gitignore")
    }
    assert files == {
        "README.md": b"\0binary\xff",
        "experiments/one.py": b"changed\n",
        "experiments/staged.py": b"staged\n",
        "experiments/new *é.py": b"new\n",
        "conf/new.yaml": b"new: 1\n",
    }
    # The same state told of there is the same patch, so that a replay recognises it.
    assert checkout.version(again).patch_to_keep() == patch


def test_what_a_tuning_writes_is_no_change_of_the_code(repository):
    (repository / "conf" / "tuned").mkdir()
    kept = repository / "conf" / "tuned" / "adam.yaml"
    kept.write_text("lr: 0.1\n")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "Tune")
    kept.write_text("lr: 0.2\n")
    (repository / "conf" / "tuned" / "sgd.yaml").write_text("lr: 0.3\n")
    checkout.version.cache_clear()
    assert checkout.version(repository).facts()["uncommitted_changes"] is False
    (repository / "conf" / "own.yaml").write_text("lr: 0.3\n")
    checkout.version.cache_clear()
    assert checkout.version(repository).facts()["uncommitted_changes"] is True


def test_a_large_patch_is_told_of_and_not_kept(repository):
    (repository / "README.md").write_bytes(os.urandom(checkout.MOST_PATCH_BYTES))
    found = checkout.version(repository)
    assert found.patch_to_keep() is None
    assert found.facts()["uncommitted_changes"] is True
    assert found.facts()["patch_bytes"] > checkout.MOST_PATCH_BYTES


def test_outside_of_git_nothing_is_known(tmp_path):
    (tmp_path / "folder").mkdir()
    assert checkout.version(tmp_path / "folder").facts() == {
        "commit": None,
        "uncommitted_changes": None,
    }


def test_a_resumed_run_keeps_the_names_of_all_its_code(tmp_path, monkeypatch):
    """And the patch beside it is always that of the last."""
    folder = RunFolder(tmp_path, "abc")
    folder.create()

    def save(commit, patch, resumed):
        current = checkout.Version(commit, patch)
        monkeypatch.setattr(checkout, "version", lambda: current)
        environment.save(folder, {"code": current.facts()}, resumed=resumed)
        kept = folder.path / PATCH_FILE
        told = json.loads((folder.path / "environment.json").read_text())
        earlier = [code["commit"] for code in told.get("earlier_code", [])]
        return told["code"]["commit"], earlier, kept.read_bytes() if kept.exists() else None

    one, two, three, four = (digit * 40 for digit in "1234")
    assert save(one, b"patch", False) == (one, [], b"patch")
    assert save(one, b"patch", True) == (one, [], b"patch")
    assert save(two, b"", True) == (two, [one], None)
    assert save(three, b"", True) == (three, [one, two], None)
    assert save(four, b"", False) == (four, [], None)
