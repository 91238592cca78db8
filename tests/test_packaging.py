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

import adafisher

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, so that a build leaves nothing in it."""
    folder = tmp_path_factory.mktemp("copy")
    without = shutil.ignore_patterns(
        ".*", "__pycache__", "*.egg-info", "build", "data", "out", "runs", "wandb"
    )
    shutil.copytree(ROOT, folder / "copy", ignore=without)
    return folder / "copy"


def build_wheel(source: Path, folder: Path) -> zipfile.ZipFile:
    """What `pip install` of a folder or a source distribution would install."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", folder, source], check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


@pytest.fixture(scope="module")
def wheel(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return build_wheel(copy, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_the_optimizer_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "adafisher").rglob("*.py")}
    assert packed == sources | {"adafisher/native.c", "adafisher/py.typed"}
    assert any(name.endswith("/LICENSE") for name in wheel.namelist())
    top = {name.partition("/")[0] for name in wheel.namelist()}
    assert top == {"adafisher", f"adafisher-{adafisher.__version__}.dist-info"}


def test_a_source_distribution_installs_the_same(
    copy: Path, wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    code = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    command = [sys.executable, "-c", code, tmp_path]
    subprocess.run(command, cwd=copy, check=True, capture_output=True)
    (packed,) = tmp_path.glob("*.tar.gz")
    assert set(build_wheel(packed, tmp_path).namelist()) == set(wheel.namelist())


def test_an_editable_install_shows_the_optimizer_alone(copy: Path, tmp_path: Path) -> None:
    """`experiments` and `analysis` are found in the checkout, as the folder that one stands in."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    options = ["--no-build-isolation", "--target", str(tmp_path), "-e", str(copy)]
    subprocess.run([*command, *options], check=True, capture_output=True)
    code = (
        f"import site; site.addsitedir({str(tmp_path)!r})\n"
        "from importlib.util import find_spec\n"
        "for name in ('adafisher', 'experiments', 'analysis', 'conf', 'tests'):\n"
        "    spec = find_spec(name)\n"
        "    print(name, spec and spec.origin)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    found = dict(line.split(" ", 1) for line in ran.stdout.splitlines())
    assert found.pop("adafisher") == str(copy / "adafisher" / "__init__.py")
    assert set(found.values()) == {"None"}


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
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text("utf-8").startswith("MIT License")
    assert [author["family-names"] for author in paper["authors"]] == [
        *("Martins Gomes", "Zhang", "Belilovsky", "Wolf", "Hosseini")
    ]
    assert paper["year"] == 2025
    assert paper["identifiers"][0]["value"] == "arXiv:2405.16397"


def test_the_version_stands_in_one_place(wheel: zipfile.ZipFile) -> None:
    """`adafisher.__version__`; the files of text that repeat it are held to it."""
    assert PROJECT["dynamic"] == ["version"]
    assert "version" not in PROJECT
    (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
    assert message_from_string(wheel.read(name).decode())["Version"] == adafisher.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert str(citation["version"]) == adafisher.__version__


def test_the_newest_entry_of_the_changelog_is_this_version() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines()
    entries = [line for line in lines if line.startswith("## ")]
    found = re.fullmatch(r"## \[([\d.]+)\] - (?:not yet released|\d{4}-\d\d-\d\d)", entries[0])
    assert found, entries[0]
    assert found[1] == adafisher.__version__
    kinds = {line for line in lines if line.startswith("### ")}
    known = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
    assert kinds <= {f"### {kind}" for kind in known}
