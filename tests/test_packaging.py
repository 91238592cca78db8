"""What an install brings: the wheel, the pins, and what is said about the project."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of a copy, so that the build leaves nothing in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    without = shutil.ignore_patterns(
        ".*", "__pycache__", "*.egg-info", "build", "data", "out", "runs", "wandb"
    )
    shutil.copytree(ROOT, folder / "copy", ignore=without)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", folder, folder / "copy"], check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_holds_the_optimizer_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "adafisher").rglob("*.py")}
    assert packed == sources | {"adafisher/py.typed"}
    assert any(name.endswith("/LICENSE") for name in wheel.namelist())


def test_torch_is_the_only_dependency(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
    metadata = message_from_string(wheel.read(name).decode())
    requirements = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    always = {r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})}
    assert always == {"torch"}
    assert set(metadata.get_all("Provides-Extra", [])) == {"suite", "dev", "zoo"}
    assert metadata["Requires-Python"] == "<3.14,>=3.11"


def test_every_package_of_an_install_is_pinned_to_what_is_installed() -> None:
    """Follows the requirements of all extras through what is installed here."""
    torch, pin = version("torch"), pins()["torch"]
    if torch.partition("+")[0] != pin:
        pytest.skip(f"torch {torch} was installed without the constraints file, which has {pin}")
    extras = PROJECT["optional-dependencies"]
    queue = [
        Requirement(text) for text in [*PROJECT["dependencies"], *extras["suite"], *extras["dev"]]
    ]
    seen: set[tuple[str, str]] = set()
    installed: dict[str, str] = {}
    while queue:
        requirement = queue.pop()
        try:
            found = distribution(requirement.name)
        except PackageNotFoundError:
            pytest.fail(f"{requirement} is not installed")
        name = canonicalize_name(requirement.name)
        installed[name] = found.version
        for extra in {"", *requirement.extras}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            needed = [Requirement(text) for text in found.requires or []]
            queue += [n for n in needed if n.marker is None or n.marker.evaluate({"extra": extra})]
    pinned = pins()
    assert installed == {name: pinned.get(name) for name in installed}
    unused = set(pinned) - set(installed) - {"pip", "setuptools"}
    assert not unused or sys.platform != "linux", "packages that other platforms leave out"


def test_constraints_are_plain_pins() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    packages = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in packages)
    assert len(pins()) == len(packages)
    assert packages == sorted(packages, key=str.lower)


def test_each_dependency_has_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    extras = PROJECT["optional-dependencies"]
    for requirement in [
        *PROJECT["dependencies"],
        *(text for texts in extras.values() for text in texts),
    ]:
        assert re.search(rf'"{re.escape(requirement)}",  # \w', text), requirement


def test_the_citation_names_the_suite_and_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    paper = citation["preferred-citation"]
    assert str(citation["version"]) == PROJECT["version"]
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text("utf-8").startswith("MIT License")
    assert [author["family-names"] for author in paper["authors"]] == [
        *("Martins Gomes", "Zhang", "Belilovsky", "Wolf", "Hosseini")
    ]
    assert paper["year"] == 2025
    assert paper["identifiers"][0]["value"] == "arXiv:2405.16397"
