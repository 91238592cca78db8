"""A file of one's own in ``conf/``: what it may leave out, and what a slip in it says.

Every slip is one line with the file, the line in it, and what is expected there.
"""

import re
import shutil
from pathlib import Path

import pytest

from experiments.config import commandline, compose
from experiments.errors import UserError
from experiments.tuning import space
from tests.support.commands import exit_code

LEAST = "_target_: torch.optim.SGD\nlr: 0.1\n"
FULL = """# Source: a test
_target_: torch.optim.SGD
_partial_: true
lr: 0.1
momentum: 0.9
suite:
  name: mine
  family: mine
  needs: {model: false, logits: false}
  search:
    lr: {low: 3.0e-3, high: 3.0, scale: log}
"""
AS_YAML = r".*Must be YAML: `key: value`, indented by spaces, each key once\."
SLIPS = {
    "tab": (f"{FULL}\tfoo: 1\n", r", line 12: found character '\\t'" + AS_YAML),
    "key twice": (f"{FULL}lr: 0.5\n", r", line 12: found duplicate key lr" + AS_YAML),
    "colon forgotten": (FULL.replace("lr: 0.1\n", "lr 0.1\n"), r", line [45]: " + AS_YAML),
    "bracket left open": (FULL.replace("{low", "{{low"), r", line 1[12]: " + AS_YAML),
    "empty": ("", r": Invalid optimizer\._target_: None\. Must name a function or class"),
    "only a comment": ("# nothing\n", r": Invalid optimizer\._target_: None\. Must name a"),
    "a list": ("- a\n", r": it is a list\." + AS_YAML),
    "not text": (b"\xff\xfe\x00\x81", r": it is no text in UTF-8\." + AS_YAML),
    "a NUL": ("lr: \0", r": it is no text \(.*\)\." + AS_YAML),
    "no such class": (
        FULL.replace("SGD", "SDG"),
        r", line 2: Invalid optimizer\._target_: 'torch\.optim\.SDG'\. Must name a function or",
    ),
    "no such module": (
        FULL.replace("torch.optim", "torch.optimm"),
        r", line 2: Invalid optimizer\._target_: 'torch\.optimm\.SGD'\. Must name .*optimm",
    ),
    "not partial": (
        FULL.replace("_: true", "_: false"),
        r", line 3: Invalid optimizer\._partial_: False\. Must be true, or left out",
    ),
    "text for a number": (
        FULL.replace("lr: 0.1", "lr: high"),
        r", line 4: Invalid optimizer\.lr: 'high'\. Must be no text",
    ),
    "negative": (
        FULL.replace("lr: 0.1", "lr: -0.1"),
        r", line 4: Invalid optimizer\.lr: -0\.1\. Must be finite and >= 0\.",
    ),
    "no number": (
        FULL.replace("momentum: 0.9", "momentum: .nan"),
        r", line 5: Invalid optimizer\.momentum: nan\. Must be finite and >= 0\.",
    ),
    "argument misspelt": (
        FULL.replace("momentum", "momentun"),
        r", line 5: Unknown key: 'optimizer\.momentun'\. .*Did you mean: optimizer\.momentum",
    ),
    "the name of another": (
        FULL.replace("name: mine", "name: sgd"),
        r", line 7: Invalid optimizer\.suite\.name: 'sgd'\. Must be 'mine', the name of its file",
    ),
    "key misspelt": (
        FULL.replace("family", "famly"),
        r", line 8: Unknown key: 'optimizer\.suite\.famly'\. Did you mean: family\?",
    ),
    "a schedule without a name": (
        f"{FULL}  schedule: {{warmup_fraction: 0.1}}\n",
        r".*Invalid optimizer\.suite\.schedule: \{'warmup_fraction': 0\.1\}\. Must have the",
    ),
    "a schedule that is none": (
        f"{FULL}  schedule: {{name: liner}}\n",
        r".*Invalid optimizer\.suite\.schedule\._target_: 'experiments\.schedule\.liner'\.",
    ),
    "a schedule's argument misspelt": (
        f"{FULL}  schedule: {{name: linear, warmup: 0.1}}\n",
        r".*Unknown key: 'optimizer\.suite\.schedule\.warmup'\. .*Did you mean: .*warmup_fraction",
    ),
    "a need that is none": (
        FULL.replace("{model", "{modl"),
        r", line 9: Unknown key: 'optimizer\.suite\.needs\.modl'\. Did you mean: model\?",
    ),
    "needs of another kind": (
        FULL.replace("{model: false, logits: false}", "model"),
        r", line 9: Invalid optimizer\.suite\.needs: 'model'\. Must be a mapping\.",
    ),
    "a need of another kind": (
        FULL.replace("model: false", "model: 3"),
        r", line 9: Invalid optimizer\.suite\.needs\.model: 3\. Must be true or false\.",
    ),
    "suite of another kind": (
        f"{LEAST}suite: [a]\n",
        r", line 3: Invalid optimizer\.suite: \['a'\]\. Must be a mapping\.",
    ),
    "a reference to nothing": (
        FULL.replace("lr: 0.1", "lr: ${nope}"),
        r", line 4: Invalid optimizer\.lr: Interpolation key 'nope' not found\. It must refer",
    ),
    "a default that is none": (
        f"defaults:\n  - nope\n{LEAST}",
        r": Unknown optimizer: 'nope'\. Did you mean: ",
    ),
}


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of an optimizer of one's own, in a copy of ``conf/``."""
    conf = shutil.copytree(commandline.CONF, tmp_path / "conf")
    monkeypatch.setattr(commandline, "CONF", conf)
    return conf / "optimizer" / "mine.yaml"


@pytest.mark.parametrize(("content", "line"), SLIPS.values(), ids=SLIPS.keys())
def test_a_slip_is_one_line_with_its_place(
    content: str | bytes,
    line: str,
    mine: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mine.write_bytes(content if isinstance(content, bytes) else content.encode())
    runs = tmp_path / "runs"
    words = ["task=digits", "optimizer=mine", "tracking=none", f"runs_dir={runs}"]
    assert exit_code("train", *words) == 2
    (only,) = capsys.readouterr().err.splitlines()
    assert re.match(rf"error: conf/optimizer/mine\.yaml{line}", only), only
    assert not runs.exists()


def test_every_key_but_the_target_may_be_left_out(mine: Path) -> None:
    mine.write_text(LEAST)
    config = compose.composed(["task=digits", "optimizer=mine"])
    method = config.optimizer
    assert (method.name, method.family, method.published_as) == ("mine", "mine", None)
    assert (method.control, method.is_shardable, method.neutral) == (None, False, {})
    assert not any(vars(method.needs).values())
    assert method.arguments["_partial_"] is True
    assert method.hyperparameters == {"lr": 0.1}
    with pytest.raises(UserError, match=r"Invalid optimizer\.suite\.search of mine: .*one entry"):
        space.parse(method)


def test_what_is_written_out_at_its_default_is_the_same_run(mine: Path) -> None:
    ids = []
    for suite in ("", "suite: {name: mine}\n", "suite: {name: mine, published_as: null}\n"):
        mine.write_text(f"{LEAST}{suite}")
        ids.append(compose.composed(["task=digits", "optimizer=mine"]).run_id)
    assert len(set(ids)) == 1


def test_a_hyperparameter_may_be_negative_where_its_file_says_so(mine: Path) -> None:
    mine.write_text(f"{LEAST}dampening: -0.5\nsuite: {{signed: [dampening]}}\n")
    method = compose.composed(["task=digits", "optimizer=mine"]).optimizer
    assert method.hyperparameters["dampening"] == -0.5


@pytest.mark.parametrize("place", ["tuned/digits/mine.yaml", "experiment/own.yaml"])
def test_a_value_is_told_where_the_run_has_it_from(place: str, mine: Path) -> None:
    mine.write_text(FULL)
    (mine.parents[1] / place).write_text("# @package _global_\noptimizer:\n  lr: -1\n")
    words = ["task=digits", "optimizer=mine"]
    words += ["ruleset=tuned"] if place.startswith("tuned") else ["experiment=own"]
    with pytest.raises(UserError, match=rf"^conf/{place}, line 3: Invalid optimizer\.lr: -1\. "):
        compose.composed(words)


@pytest.mark.parametrize(
    ("content", "flags", "line"),
    [
        ("hydra: {mode: MULTIRUN}\n", [], r"Invalid hydra\.mode: MULTIRUN\. Leave it out"),
        ("hydra: {mode: MULTIRUN}\n", ["-m"], r"Invalid hydra\.mode: MULTIRUN\. Leave it out"),
        ("hydra: {sweeper: {params: {seed: '0,1'}}}\n", [], r".*It is a sweep, which -m"),
        ("grids: [{seed: '0,1'}]\n", [], r".*It is a sweep, which -m \(--multirun\) starts"),
        ("grids: 3\n", ["-m"], r"Invalid grids of experiment=own: 3\. Must be a list of key: "),
        ("hydra: {sweeper: {params: 3}}\n", ["-m"], r"In 'experiment/own': .*int"),
        ("hydra: {sweeper: {params: {seed: 'range(0,0)'}}}\n", ["-m"], r".*stands for no value"),
        ("foo: 3\n", [], r"Unknown key: 'foo'\. "),
        ("\tseed: 3\n", [], r"conf/experiment/own\.yaml, line 2: found character '\\t'"),
    ],
)
def test_a_slip_in_an_experiment_is_one_line(
    content: str, flags: list[str], line: str, mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = mine.parents[1] / "experiment" / "own.yaml"
    own.write_text(f"# @package _global_\n{content}")
    runs = mine.parents[2] / "runs"
    assert exit_code("train", *flags, "experiment=own", f"runs_dir={runs}") == 2
    (only,) = capsys.readouterr().err.splitlines()
    assert re.match(f"error: {line}", only), only
    assert not runs.exists()
