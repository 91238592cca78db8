"""The arrows of the design: which package may import which, read from the sources."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("adafisher", "analysis", "conf", "experiments", "tests")
STDLIB = ("experiments.records", "experiments.system", "experiments.errors")
READ_BY_ANALYSIS = ("experiments.records", "experiments.system.output", "experiments.system.memory")
WRITERS = ("experiments.records.store", "experiments.records.states")
PURE = ("adafisher.fisher", "adafisher.native", "adafisher.reference")
# Upper may import lower; names between two bars do not import one another.
ORDERS = {
    "experiments": "__main__ api | train versus | tuning studies replay bench | sweep | run"
    " | timing | engine | tracking tasks models optimizers schedule | tokenizations | config"
    " | records | errors likelihood seeding | system",
    "analysis": "api | report | tables figures | plots | published"
    " | render | results | statistics | style",
    "adafisher": "by_name | optimizer | stats | curvature"
    " | checkpoint arguments groups | capture execution | layers"
    " | factors fisher coverage reasons scalars reference | squares | native",
}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, package: str) -> set[str]:
    """All modules that `source`, a module of `package`, imports at any depth, under absolute names.

    `from a.b import c` counts as `a.b.c`: `c` may be a module.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join(
                [*(above if node.level else []), *([node.module] if node.module else [])]
            )
            found |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("import_module", "__import__")
        ):
            found |= {str(a.value) for a in node.args if isinstance(a, ast.Constant)}
    return found


def within(module: str, *allowed: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in allowed)


def is_stdlib(module: str) -> bool:
    return module.split(".")[0] in sys.stdlib_module_names


def is_ours(module: str) -> bool:
    return within(module, *OURS)


def may_import(module: str, imported: str) -> bool:
    """Whether the design lets `module` import `imported`."""
    if within(module, *STDLIB):
        return is_stdlib(imported) or within(imported, *STDLIB)
    if module in PURE:
        return is_stdlib(imported) or within(imported, "torch")
    if within(module, "adafisher"):
        return is_stdlib(imported) or within(imported, "torch", "adafisher")
    if within(module, "experiments"):
        return not is_ours(imported) or within(imported, "experiments")
    if within(module, "analysis"):
        return not within(imported, "torch", "torchvision") and (
            not is_ours(imported)
            or (within(imported, "analysis", *READ_BY_ANALYSIS) and not within(imported, *WRITERS))
        )
    return True


def heights(package: str) -> dict[str, int]:
    """How high each part of a package stands; the ground is 0."""
    layers = ORDERS[package].split("|")
    return {part: at for at, layer in enumerate(reversed(layers)) for part in layer.split()}


def keeps_the_order(module: str, imported: str) -> bool:
    """Whether `imported` is of another package, or of the same part of it, or of a lower one."""
    package, _, inner = module.partition(".")
    if package not in ORDERS or not within(imported, package):
        return True
    height = heights(package)
    above, below = inner.split(".")[0], imported.split(".")[1:2]
    return below == [above] or (
        above in height and bool(below) and height[above] > height.get(below[0], len(height))
    )


def sources() -> Iterator[Path]:
    for package in ("adafisher", "analysis", "experiments"):
        yield from sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", list(sources()), ids=module_of)
def test_imports_follow_the_arrows(path: Path) -> None:
    module = module_of(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    forbidden = {
        name for name in imports(path.read_text("utf-8"), package) if not may_import(module, name)
    }
    assert not forbidden, f"{module} must not import {sorted(forbidden)}"


@pytest.mark.parametrize("package", ORDERS)
def test_every_import_goes_down_the_layers(package: str) -> None:
    upward, parts = set(), set()
    for path in sources():
        module = module_of(path)
        if within(module, package) and module != package:
            inside = module if path.name == "__init__.py" else module.rpartition(".")[0]
            named = imports(path.read_text("utf-8"), inside)
            upward |= {(module, name) for name in named if not keeps_the_order(module, name)}
            parts.add(module.split(".")[1])
    assert upward == set()
    assert parts == set(heights(package))


@pytest.mark.parametrize(
    ("module", "line", "kept"),
    [
        ("analysis.report.page", "from analysis.tables import cost", True),
        ("analysis.report.page", "from .run_pages import MOST", True),
        ("analysis.plots.curves", "def f():\n    from ..style import colour", True),
        ("analysis.plots.curves", "import numpy, experiments.records.schema", True),
        ("analysis.plots.curves", "def f():\n    from ..figures import cost_per_method", False),
        ("analysis.tables.cost", "from ..figures import cost_per_method", False),
        ("analysis.statistics.power", "from analysis import results", False),
        ("analysis.style", "import analysis.statistics.power", False),
        ("analysis.report.page", "from analysis import nowhere", False),
        ("analysis.nowhere", "from analysis import style", False),
        ("adafisher.optimizer", "from .capture.calls import refuse_capture", True),
        ("adafisher.capture.hooks", "from adafisher.capture import calls", True),
        ("adafisher.capture.hooks", "def f():\n    from ..layers.layer import Layer", True),
        ("adafisher.stats", "import torch, math", True),
        ("adafisher.capture.hooks", "def f():\n    from .. import optimizer", False),
        ("adafisher.capture.capture", "from adafisher.execution import sharding", False),
        ("adafisher.layers.layer", "from ..execution.sharding import local", False),
        ("adafisher.fisher", "from adafisher import factors", False),
        ("adafisher.stats", "import adafisher", False),
        ("adafisher.stats", "from adafisher import nowhere", False),
        ("adafisher.nowhere", "from adafisher import fisher", False),
    ],
)
def test_the_order_itself(module: str, line: str, kept: bool) -> None:
    found = imports(line, module.rpartition(".")[0])
    assert all(keeps_the_order(module, name) for name in found) is kept


@pytest.mark.parametrize(
    ("module", "line", "allowed"),
    [
        ("adafisher.optimizer", "from .capture.capture import Capture", True),
        ("adafisher.optimizer", "import numpy", False),
        ("adafisher.optimizer", "from experiments.records import schema", False),
        ("adafisher.fisher", "from torch import Tensor", True),
        ("adafisher.fisher", "from .factors import pool", False),
        ("experiments.train", "import hydra, torch", True),
        ("experiments.train", "def f():\n    import adafisher", False),
        ("experiments.optimizers.kfac", "from adafisher.fisher import f", False),
        ("experiments.tasks.digits", "from ..errors import UserError", True),
        (
            "experiments.train",
            "from importlib import import_module\nimport_module('analysis')",
            False,
        ),
        ("experiments.records.schema", "import json, pathlib", True),
        ("experiments.records.schema", "import yaml", False),
        ("experiments.records.store", "from .record import Run", True),
        ("experiments.records.store", "from ..engine.loop import train", False),
        ("analysis.results.load", "from experiments.records.schema import load_runs", True),
        ("analysis.results.load", "from experiments.records import schema", True),
        ("analysis.results.load", "from experiments.records.store import write", False),
        ("analysis.tables.summary", "from torch.nn import Module", False),
        ("analysis.tables.summary", "from ..style import colour", True),
    ],
)
def test_the_rules_themselves(module: str, line: str, allowed: bool) -> None:
    found = imports(line, module.rpartition(".")[0])
    assert all(may_import(module, name) for name in found) is allowed


def test_no_module_imports_itself_by_way_of_others() -> None:
    arrows = {}
    paths = {module_of(path): path for path in sources()}
    for module, path in paths.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        named = imports(path.read_text("utf-8"), package)
        # `from a.b import c` is an arrow to a.b.c where that is a module, else to a.b.
        arrows[module] = {name if name in paths else name.rpartition(".")[0] for name in named}
    graphlib.TopologicalSorter(arrows).prepare()
    arrows["experiments.errors"] = arrows["experiments.errors"] | {"experiments.train"}
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(arrows).prepare()


def test_helpers_stand_apart_from_tests() -> None:
    folders = [ROOT / "tests" / package for package in ("adafisher", "analysis", "experiments")]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    assert len(files) > 100
    helpers = [path.name for path in files if not path.name.startswith(("test_", "conftest."))]
    assert not helpers, "these belong into tests/support"


def test_nothing_that_analysis_loads_brings_torch() -> None:
    modules = [module_of(path) for path in sources() if path.is_relative_to(ROOT / "analysis")]
    script = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {name.split(".")[0] for name in loaded} & {"torch", "torchvision", "adafisher", "hydra"}
    ours = {name for name in loaded if within(name, "experiments")}
    assert not heavy
    assert all(name == "experiments" or within(name, *STDLIB) for name in ours)
