"""`make setup`, with stand-ins for Python: no test here installs anything."""

import time

import pytest

from tests.support.checkout import BROKEN, Checkout


def test_the_first_python_that_runs_and_fits_is_taken(checkout: Checkout) -> None:
    checkout.add_python("python3.11", None)
    checkout.add_python("python3.12", (3, 10))
    checkout.add_python("python3.13", (3, 14))
    checkout.add_python("python3", (3, 13))
    checkout.add_python("python", (3, 12))
    result = checkout.make("setup")
    assert result.returncode == 0, result.stderr
    assert "Making .venv with python3.\n" in result.stdout
    assert "not installed" not in result.stdout + result.stderr


def test_set_up_installs_the_pinned_packages(ready: Checkout) -> None:
    tools, packages = ready.calls()
    assert tools[-4:] == ["-c", "constraints.txt", "pip", "setuptools"]
    assert packages[-5:] == ["-c", "constraints.txt", "--no-build-isolation", "-e", ".[suite,dev]"]


@pytest.mark.parametrize("given", [[], ["PYTHON=/no such/python"]])
def test_one_clear_line_when_no_python_fits(checkout: Checkout, given: list[str]) -> None:
    checkout.add_python("python3.11", None)
    checkout.add_python("python3", (3, 10))
    if given:
        checkout.add_python("python3.12", (3, 12))
    result = checkout.make("test", *given)
    ours = [line for line in result.stderr.splitlines() if not line.startswith("make")]
    assert result.returncode == 2
    assert len(ours) == 1
    assert ours[0].startswith("error: no Python 3.11 to 3.13")
    assert ("/no such/python" if given else "python3.13") in ours[0]
    assert not (checkout.root / ".venv").exists()


def test_nothing_is_installed_when_nothing_changed(ready: Checkout) -> None:
    for name in ("pyproject.toml", "constraints.txt", "Makefile"):
        (ready.root / name).touch()
    (ready.bin / "python3.12").unlink()
    assert ready.make("setup").stdout == ""
    assert ready.calls() == []


def test_a_changed_pin_or_place_is_installed_again(ready: Checkout) -> None:
    with (ready.root / "constraints.txt").open("a") as file:
        file.write("another==1.0\n")
    ready.make("setup")
    assert len(ready.calls()) == 2
    ready.root = ready.root.rename(ready.root.with_name("moved"))
    ready.make("setup")
    assert len(ready.calls()) == 2
    ready.make("setup")
    assert ready.calls() == []


def test_a_failed_install_is_tried_again_in_place(checkout: Checkout) -> None:
    checkout.add_python("python3.12", (3, 12))
    result = checkout.make("test", fail="pip:1")
    assert result.returncode == 2
    assert "error: the install failed" in result.stderr
    assert checkout.programs() == []
    result = checkout.make("setup")
    assert "Making" not in result.stdout
    assert len(checkout.calls()) == 2


def test_a_killed_install_is_made_anew(checkout: Checkout) -> None:
    checkout.add_python("python3.12", (3, 12))
    assert checkout.make("setup", fail="pip:killed").returncode == 2
    (checkout.root / ".venv" / "half-written").touch()
    result = checkout.make("setup")
    assert "cut off: making .venv again.\nMaking .venv with python3.12.\n" in result.stdout
    assert len(checkout.calls()) == 2
    assert not (checkout.root / ".venv" / "half-written").exists()
    assert checkout.make("setup").stdout == ""


def test_a_set_up_that_runs_is_left_alone(checkout: Checkout) -> None:
    checkout.add_python("python3.12", (3, 12))
    with checkout.start("setup", fail="pip:waits") as first:
        while not checkout.calls():
            time.sleep(0.02)
        second = checkout.start("setup").communicate(timeout=60)
        checkout.calls_file.with_suffix(".go").touch()
        first.communicate(timeout=60)
    assert "error: .venv is being set up by another make" in second[1]
    assert first.returncode == 0
    assert checkout.make("setup").stdout == ""


def test_a_venv_whose_python_is_gone_is_made_anew(ready: Checkout) -> None:
    ready.write_program(ready.root / ".venv" / "bin" / "python", BROKEN)
    result = ready.make("setup")
    assert "does not run (any more): making .venv again." in result.stdout
    assert len(ready.calls()) == 2
