"""Optimizers that are typed in place of a name in ``conf/``: installed ones, files, YAMLs."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from experiments.config import (
    by_name,
    code_files,
    commandline,
    compose,
    named,
    origin,
    rulesets,
    targets,
)
from experiments.engine.build import build_optimizer
from experiments.errors import UserError
from experiments.tuning import ledger, space
from experiments.tuning.options import TuneOptions
from experiments.tuning.trial_scores import Trial
from tests.support.commands import exit_code
from tests.support.configs import changed

MINE = """
import torch

class Mine(torch.optim.Optimizer):
    def __init__(self, params, lr=0.05, momentum=0, *, power=-1.0, name="a"):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    param.add_(param.grad, alpha=-group["lr"])

class Closing(Mine):
    def step(self, closure):
        loss = closure()
        super().step()
        return loss

class Demanding(Mine):
    def step(self, closure=None):
        if closure is None:
            raise RuntimeError("a closure is needed")
        closure()
        super().step()

class Whole(Mine):
    def __init__(self, model, **options):
        super().__init__(model.parameters(), **options)

class Second(Mine):
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                torch.autograd.grad(param.grad.sum(), param, retain_graph=True)
        super().step()

class Needing(Mine):
    def __init__(self, params, lr, count: int):
        super().__init__(params, lr)
"""


@pytest.fixture(autouse=True)
def forgotten():
    yield
    named.forget()


@pytest.fixture
def mine(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The file; of a name of its own for each test, as modules stay loaded."""
    path = tmp_path / f"{request.node.originalname or request.node.name}.py"
    path.write_text(MINE)
    return path


def composed(word: str, *overrides: str):
    return compose.composed(commandline.normalise([f"optimizer={word}", *overrides]))


def test_rates_tuned_with_another_content_of_the_file_are_told_as_such(mine):
    """The name stays as the file is edited, and so does the tuned file, which goes by it."""
    task = {"task.suite.sha256": "0" * 64}  # as if it were typed too
    config = changed(composed(f"{mine}:Mine", "task=digits"), task)
    trial = Trial({"lr": 0.05}, "done", 98.0, 0.1, True, "accuracy_percent", (98.0,))
    options = TuneOptions(seeds=(1000,))
    searched = [space.Dimension("lr", 0.01, 1.0, log=True)]
    facts = ledger.effort(config, [trial], setting={}, space=searched, options=options)
    first = code_files.describe(mine)["sha256"]
    assert facts["sha256"] == {"optimizer": first, "task": "0" * 64}
    assert rulesets.remarks(changed(config, {"tuning": facts})) == []

    mine.write_text(MINE + "# another rule\n")
    named.forget()
    edited = changed(composed(f"{mine}:Mine", "task=digits"), {**task, "tuning": facts})
    now = code_files.describe(mine)["sha256"]
    assert rulesets.remarks(edited) == [
        f"{edited.optimizer.name} on digits: tuned with another content of the optimizer's file "
        f"(sha256 {first[:12]}, now {now[:12]})"
    ]
    older = {key: value for key, value in facts.items() if key != "sha256"}
    lines = rulesets.remarks(changed(edited, {"tuning": older}))
    assert [line.partition("(")[2] for line in lines] == [
        f"sha256 not recorded, now {sha256[:12]})" for sha256 in (now, "0" * 64)
    ]


def test_an_installed_class_has_its_own_defaults_and_its_name():
    method = composed("torch.optim.NAdam", "optimizer.lr=0.1").optimizer
    assert method.name == method.family == "torch.optim.NAdam"
    own = torch.optim.NAdam([torch.zeros(1, requires_grad=True)]).defaults
    assert method.arguments["lr"] == 0.1
    for key, value in own.items():
        if key != "lr":
            assert method.arguments[key] == (list(value) if isinstance(value, tuple) else value)
    assert isinstance(method.arguments["weight_decay"], float)  # an int in the signature
    made = build_optimizer(method, torch.nn.Linear(2, 2))
    assert type(made) is torch.optim.NAdam


@pytest.mark.parametrize("lr", [1e-3, 0.02, 3e-4, 1.0])
def test_lr_is_searched_over_three_decades_around_the_default(lr: float):
    (dimension,) = [by_name._search(lr)["lr"]]
    assert dimension["high"] / dimension["low"] == pytest.approx(1000, rel=0.01)
    assert dimension["low"] * dimension["high"] == pytest.approx(lr**2, rel=0.15)


def test_what_a_class_needs_is_read_from_it(mine: Path):
    def needs(name: str):
        return composed(f"{mine}:{name}").optimizer.suite.get("needs", {})

    assert needs("Mine") == {}
    assert needs("Closing") == {"closure": True}
    assert needs("Demanding") == {"closure": True}
    assert needs("Whole") == {"model": True}
    assert needs("Second") == {"create_graph": True}
    named.forget()
    assert composed("torch.optim.LBFGS").optimizer.needs.closure
    assert composed("pytorch_optimizer.AdaHessian").optimizer.needs.create_graph


def test_a_module_is_one_also_where_annotations_are_text(mine: Path):
    told = "class Told(Mine):\n    def __init__(self, subject: ANNOTATION, **options):\n"
    told += "        super().__init__(subject.parameters(), **options)\n"
    future = "from __future__ import annotations\nfrom torch import nn\n"
    mine.write_text(future + MINE + told.replace("ANNOTATION", "nn.Module"))
    assert composed(f"{mine}:Told").optimizer.needs.model
    assert not composed(f"{mine}:Mine").optimizer.needs.model


RAISING = {
    "assert lr > 1": "AssertionError: assert lr > 1",
    "assert lr > 1, 'lr is too small'": "AssertionError: lr is too small",
    "params.shape": "AttributeError: 'list' object has no attribute 'shape'",
    "raise ValueError('lr')": "lr",
}


@pytest.mark.parametrize(("body", "line"), RAISING.items(), ids=RAISING.keys())
def test_whatever_a_constructor_raises_is_one_line(mine: Path, body: str, line: str):
    made = f"class Raising(Mine):\n    def __init__(self, params, lr=0.1):\n        {body}\n"
    mine.write_text(MINE + made)
    section = composed(f"{mine}:Raising").optimizer
    with pytest.raises(UserError) as told:
        build_optimizer(section, torch.nn.Linear(2, 2))
    number = mine.read_text().splitlines().index(f"        {body}") + 1
    place = "" if "ValueError" in body else f" (line {number} of {mine.name})"
    assert str(told.value) == f"optimizer={mine.stem}.Raising: {line}{place}"


@pytest.mark.parametrize("error", ["MemoryError()", "RuntimeError('can\\'t allocate memory')"])
def test_a_constructor_that_finds_no_memory_is_no_mistake_of_a_user(mine: Path, error: str):
    made = f"class Large(Mine):\n    def __init__(self, params, lr=0.1):\n        raise {error}\n"
    mine.write_text(MINE + made)
    section = composed(f"{mine}:Large").optimizer
    with pytest.raises((MemoryError, RuntimeError)):
        build_optimizer(section, torch.nn.Linear(2, 2))


def test_options_that_a_class_hands_on_are_those_of_the_classes_above(mine: Path):
    method = composed(f"{mine}:Whole", "optimizer.momentum=0.9").optimizer
    assert method.hyperparameters == {"lr": 0.05, "momentum": 0.9, "power": -1.0, "name": "a"}


def test_a_class_that_swallows_any_keyword_takes_those_of_its_signature_alone():
    from pytorch_optimizer import Lion

    Lion([torch.zeros(1, requires_grad=True)], weight_dacay=0.1)  # the library says nothing
    taken = targets.accepted(Lion)
    assert taken is not None
    assert {"lr", "betas", "weight_decay"} <= taken
    with pytest.raises(UserError, match=r"Unknown key: 'optimizer\.weight_dacay'.*weight_decay"):
        targets.check_arguments(
            "optimizer", {"_target_": "pytorch_optimizer.Lion", "weight_dacay": 0.1}, Lion, also=()
        )


def test_a_file_is_a_run_of_its_own_by_what_is_in_it(mine: Path, tmp_path: Path):
    before = composed(f"{mine}:Mine")
    assert composed(f"{mine}:Mine").run_id == before.run_id
    mine.write_text(MINE + "\n# another\n")
    assert composed(f"{mine}:Mine").run_id != before.run_id
    mine.write_text(MINE)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = mine.rename(elsewhere / mine.name)
    named.forget()
    assert composed(f"{moved}:Mine").run_id == before.run_id


def test_a_record_and_its_command_name_no_folder(mine: Path):
    overrides = commandline.normalise([f"optimizer={mine}:Mine", "task=digits"])
    config = compose.composed(overrides)
    command = origin.of(config, overrides)["command"]
    assert f"optimizer=./{mine.name}:Mine" in command
    assert config.files is not None
    assert str(mine.parent) not in str({**config.values, "files": None})
    assert named.spelled(overrides)[0] == f"optimizer={mine}:Mine"


def test_a_yaml_elsewhere_is_read_as_one_of_ours(tmp_path: Path):
    path = tmp_path / "my_own.yaml"
    path.write_text(
        "_target_: torch.optim.RMSprop\nlr: 1e-3\n"
        "suite:\n  search:\n    lr: {low: 1e-4, high: 1e-2, scale: log}\n"
    )
    method = composed(str(path), "optimizer.lr=0.01").optimizer
    assert method.name == "my_own"
    assert method.hyperparameters == {"lr": 0.01}
    assert space.parse(method)[0].high == 1e-2


REFUSED = {
    "no such class": ("torch.optim.NAdm", "torch.optim has no NAdm. Did you mean: NAdam"),
    "no optimizer": ("torch.nn.Linear", "It is no optimizer: must be a class of torch.optim"),
    "no class": ("torch.optim.lr_scheduler", "It is no optimizer: must be a class of torch.optim"),
    "not installed": ("heavyball.Muon", "No module heavyball is installed; the package heavyball"),
    "of no known package": ("nobodys.Opt", "No module nobodys is installed; no package is known"),
    "no file": ("./nowhere.py:Opt", "There is no file ./nowhere.py."),
    "no form": ("a/b", "Must be an installed name as torch.optim.NAdam, or a file: "),
    "misspelt": ("adamm", "Unknown optimizer: 'adamm'. Did you mean: adam"),
}


@pytest.mark.parametrize(("word", "line"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_had_is_one_line(word: str, line: str, capsys: pytest.CaptureFixture[str]):
    assert exit_code("plan", f"optimizer={word}", "task=digits") == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert line in told


IN_FILES = {
    "no class given": ("", MINE, "Give its class, as ./"),
    "no class to give": ("", "class A: pass\n", "has no class that is a torch.optim.Optimizer."),
    "another class": (":Miine", MINE, "Did you mean: Mine?"),
    "no optimizer": (
        ":A",
        "class A: pass\n",
        "It is no optimizer: must be a class of torch.optim.Opt",
    ),
    "nothing": (":A", "\n", "has no class that is a torch.optim.Optimizer."),
    "an error": (":A", "1 / 0\n", "it cannot be run; ZeroDivisionError: division by zero."),
    "an exit": (":A", "raise SystemExit(3)\n", "it cannot be run; SystemExit: 3."),
    "no Python": (":A", "class A(:\n", "it cannot be run; SyntaxError: "),
    "a value left out": (":Needing", MINE, "Missing value: optimizer.count. Give it as optimizer"),
}


@pytest.mark.parametrize(("end", "text", "line"), IN_FILES.values(), ids=IN_FILES.keys())
def test_what_a_file_lacks_is_one_line(
    end: str, text: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / f"file_{abs(hash(line))}.py"
    path.write_text(text)
    assert exit_code("plan", f"optimizer={path}{end}", "task=digits") == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert line in told


def test_a_name_stands_for_one_thing(tmp_path: Path):
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths.append(tmp_path / folder / "twice.py")
        paths[-1].write_text(MINE)
    with pytest.raises(UserError, match=r"a/twice\.py:Mine is called so already"):
        commandline.normalise([f"optimizer={paths[0]}:Mine,{paths[1]}:Mine"])
    ours = tmp_path / "adamw.yaml"
    ours.write_text("_target_: torch.optim.SGD\n")
    with pytest.raises(UserError, match="conf/optimizer has 'adamw' already"):
        commandline.normalise([f"optimizer={ours}"])
    module = tmp_path / "random.py"
    module.write_text(MINE)
    with pytest.raises(UserError, match="There is a module 'random' already"):
        composed(f"{module}:Mine")


def test_runs_by_name_and_their_replay(tmp_path: Path, mine: Path):
    """In processes of their own, as a user has them: a sweep, what is refused, and a replay."""
    runs = tmp_path / "runs"

    def python(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "experiments", *words, f"runs_dir={runs}"]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    typed = f"optimizer={mine}:Mine"
    short = ("budget=steps", "budget.steps=3", "tracking=none", "task=digits")
    made = python("train", "-m", f"{typed},torch.optim.NAdam", *short)
    assert made.returncode == 0, made.stderr
    configs = {
        path.parent.name: yaml.safe_load(path.read_text()) for path in runs.glob("*/config.yaml")
    }
    by_label = {config["optimizer"]["suite"]["name"]: run for run, config in configs.items()}
    assert set(by_label) == {f"{mine.stem}.Mine", "torch.optim.NAdam"}
    assert str(mine.parent) not in "".join(
        str(config["optimizer"]) + str(config["origin"]) for config in configs.values()
    )
    assert not any("files" in config for config in configs.values())
    run = f"run={by_label[f'{mine.stem}.Mine']}"
    refused = python("replay", run)
    assert refused.returncode == 2
    assert f"type optimizer=./{mine.name}:Mine beside the command" in refused.stderr
    replayed = python("replay", run, typed)
    assert replayed.returncode == 0, replayed.stderr
    assert "identical" in replayed.stdout
    mine.write_text(MINE + "# changed\n")
    changed = python("replay", run, typed)
    assert changed.returncode == 2
    assert "is not the file that the run was made with" in changed.stderr


def test_a_record_that_names_a_file_is_not_followed(mine: Path):
    from experiments.config import foreign

    values = composed(f"{mine}:Mine").values
    with pytest.raises(UserError, match="The record has `files`"):
        foreign.check(values)
