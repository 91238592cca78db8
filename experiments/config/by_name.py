"""The section of a config for an optimizer that is typed, and has no file in ``conf/``.

A YAML elsewhere is read as one of ``conf/`` is. Of a class, what a file would say is read from its
signature (each argument with its default) and from how it steps (the model or its parameters, a
closure, gradients with a graph); see ``docs/extending.md``.
"""

import contextlib
import importlib
import inspect
import math
import re
import typing
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from hydra.core.config_store import ConfigStore

from experiments.config import code_files, named, refusals, targets, typed_task
from experiments.config.essence import Values
from experiments.config.named import Named
from experiments.config.nearest import nearest
from experiments.config.suite_keys import SUITE
from experiments.errors import UserError, one_line

MISSING = "???"
"""What OmegaConf has for a value that must be given."""
PACKAGES = {
    "heavyball": "heavyball",
    "lion_pytorch": "lion-pytorch",
    "optimi": "torch-optimi",
    "prodigyopt": "prodigyopt",
    "pytorch_optimizer": "pytorch-optimizer",
    "schedulefree": "schedulefree",
    "timm": "timm",
    "torch_optimizer": "torch-optimizer",
}
"""Which package has a module, where the name does not tell, or is that of another package."""

_MODELS = ("model", "module", "network", "net")
_KEPT: dict[Named, dict[str, str]] = {}


def provide() -> bool:
    """Have Hydra know what was typed, each beside the files of its group.

    Returns:
        Whether anything is not as it was.

    Raises:
        UserError: If something is none that can be had, or no optimizer.
    """
    is_new = False
    for one in named.everything():
        files = _files_of(one)
        if one in _KEPT and files == _KEPT[one]:
            continue
        is_new = True
        made = section(one.group, one.label)
        ConfigStore.instance().store(group=one.group, name=one.label, node=made, provider="typed")
        _KEPT[one] = files
    return is_new


def section(group: str, label: str) -> dict[str, Any]:
    """Give the section of what was typed, nothing resolved; empty of a name in ``conf/``."""
    one = named.get(group, label)
    if one is None:
        return {}
    if one.is_yaml:
        return _yaml(one)
    return typed_task.section(one) if group == "task" else _of_class(one)


def files(group: str, label: str | None) -> dict[str, Any] | None:
    """Give the Python files that a choice is built from, as ``files`` of its config has them."""
    one = named.get(group, label)
    if one is None or one.path is None or one.is_yaml:
        return None
    return {one.path.stem: code_files.describe(one.path)}


def _files_of(one: Named) -> dict[str, str]:
    return {} if one.path is None else code_files.describe(one.path)


def _yaml(one: Named) -> dict[str, Any]:
    assert one.path is not None
    return refusals.load(one.path)


def _of_class(one: Named) -> dict[str, Any]:
    """Write the section that a class needs."""
    maker, target = _class(one)
    arguments = {
        parameter.name: _value(parameter)
        for parameter in _subjectless(maker)
        if _is_writable(parameter)
    }
    suite: dict[str, Any] = {
        "needs": _needs(maker, arguments),
        "search": _search(arguments.get("lr")),
        **_kinds(maker, arguments),
    }
    if one.path is not None:
        suite["sha256"] = code_files.describe(one.path)["sha256"]
    return {
        "_target_": target,
        "_convert_": "all",  # plain lists: OmegaConf's own do not load under weights_only
        **arguments,
        SUITE: {key: value for key, value in suite.items() if value},
    }


def _class(one: Named) -> tuple[type, str]:
    """Find the class of an optimizer, and what ``_target_`` calls it."""
    from torch.optim import Optimizer

    if one.path is None:
        module, _, name = one.name.rpartition(".")
        found = _import(one, module)
    else:
        module, name = one.path.stem, one.name
        code_files.load({module: code_files.describe(one.path)})
        found = importlib.import_module(module)
    own = [
        key
        for key, value in vars(found).items()
        if isinstance(value, type) and issubclass(value, Optimizer) and value is not Optimizer
        if one.path is None or value.__module__ == module
    ]
    what = getattr(found, name, None) if name else None
    if what is None:
        if not own:
            said = f"{module} has no class that is a torch.optim.Optimizer."
        elif name:
            said = f"{module} has no {name}. {nearest(name, own)}"
        else:
            said = f"Give its class, as {one.kept}:{own[0]}."
        raise UserError(f"Invalid {one.group}: {one.typed!r}. {said}")
    if not isinstance(what, type) or not issubclass(what, Optimizer) or what is Optimizer:
        raise UserError(
            f"Invalid {one.group}: {one.typed!r}. It is no optimizer: must be a class of "
            f"torch.optim.Optimizer.{f' {nearest(name, own)}' if own else ''}"
        )
    return what, f"{module}.{name}"


def _import(one: Named, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except Exception as error:
        top = module.partition(".")[0]
        why = f"{one_line(error).rstrip('.')}."
        if isinstance(error, ModuleNotFoundError) and error.name == top:
            why = f"No module {top} is installed; "
            package = PACKAGES.get(top)
            why += (
                f"the package {package} has it." if package else "no package is known to have it."
            )
        raise UserError(f"Unknown {one.group}: {one.typed!r}. {why}") from error


def _subjectless(maker: type) -> list[inspect.Parameter]:
    """List the parameters of a class, but for the first, which is what it trains."""
    return list(targets.parameters(maker).values())[1:]


def _is_writable(parameter: inspect.Parameter) -> bool:
    """Tell whether a YAML can hold a parameter's default; what it cannot, keeps the class's own."""
    default = parameter.default
    if default is parameter.empty:
        return True
    return all(
        item is None
        or isinstance(item, bool | str | int)
        or (isinstance(item, float) and math.isfinite(item))
        for item in _items(default)
    )


def _items(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [item for one in value for item in _items(one)]
    return [value]


def _value(parameter: inspect.Parameter) -> Any:
    if parameter.default is parameter.empty:
        return MISSING
    takes_float = "float" in str(parameter.annotation)
    return _plain(parameter.default, real=takes_float)


def _plain(value: Any, *, real: bool) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item, real=real) for item in value]
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if real and is_whole else value


def _kinds(maker: type, arguments: Values) -> dict[str, list[str]]:
    """Say which arguments may be null, negative, or no whole number though their default is."""
    kinds: dict[str, list[str]] = {"nullable": [], "signed": [], "real": []}
    for parameter in _subjectless(maker):
        value = arguments.get(parameter.name)
        numbers = [x for x in _items(value) if isinstance(x, int | float)]
        if _may_be_none(parameter.annotation) and value is not None:
            kinds["nullable"].append(parameter.name)
        if any(number < 0 for number in numbers):
            kinds["signed"].append(parameter.name)
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if is_whole and parameter.annotation is parameter.empty:
            kinds["real"].append(parameter.name)
    return kinds


def _may_be_none(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return "None" in annotation or "Optional" in annotation
    return type(None) in typing.get_args(annotation)


def _search(lr: Any) -> dict[str, Any]:
    """Give the default search: lr over three decades, around its own default on a log scale."""
    if isinstance(lr, bool) or not isinstance(lr, int | float) or lr <= 0:
        return {}
    low = float(f"{lr / 10**1.5:.1g}")
    source = "three decades, log-centred on the default; lr alone for every method: equal effort"
    high = float(f"{low * 1000:.3g}")
    return {"lr": {"low": low, "high": high, "scale": "log", "source": source}}


def _needs(maker: type, arguments: Values) -> dict[str, bool]:
    """Say what the loop must give: by the signature, and by what a step of a tiny model needs."""
    first = next(iter(targets.parameters(maker).values()), None)
    takes_model = first is not None and (first.name in _MODELS or _is_module(first.annotation))
    needs = {"model": True} if takes_model else {}
    step = list(inspect.signature(maker.step).parameters.values())[1:2]  # type: ignore[attr-defined]
    if step and step[0].default is step[0].empty and step[0].name == "closure":
        return needs | {"closure": True}
    given = {key: value for key, value in arguments.items() if value != MISSING}
    for further in ({}, {"create_graph": True}, {"closure": True}):
        if _steps(maker, given, takes_model=takes_model, **further):
            return needs | further
    return needs  # trying out the config will tell what is wrong


def _is_module(annotation: Any) -> bool:
    """Tell whether an annotation is a module, also as the text that a future import makes of it."""
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return re.fullmatch(r"[\w.]*Module\w*", name) is not None


def _steps(
    maker: Callable[..., Any],
    arguments: Values,
    *,
    takes_model: bool,
    create_graph: bool = False,
    closure: bool = False,
) -> bool:
    """Try two steps of a model of one layer; tells whether they went well."""
    import torch

    with _apart():
        model = torch.nn.Linear(3, 2)
        try:
            optimizer = maker(model if takes_model else list(model.parameters()), **arguments)

            def loss() -> Any:
                optimizer.zero_grad()
                value = model(torch.ones(4, 3)).square().sum()
                value.backward(create_graph=create_graph)
                return value

            for _ in range(2):
                getattr(optimizer, "train", lambda: None)()
                if closure:
                    optimizer.step(loss)
                else:
                    loss()
                    optimizer.step()
        except Exception:
            return False
        return True


@contextlib.contextmanager
def _apart() -> Iterator[None]:
    """Leave torch's random stream as it is, and say nothing."""
    import torch

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        yield
