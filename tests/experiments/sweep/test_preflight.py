"""A mistake that can be known before a run starts is one line: the value and what is allowed."""

import pytest

from experiments.config.commandline import normalise
from experiments.errors import UserError
from experiments.sweep import preflight


@pytest.fixture
def check(tmp_path):
    def call(*overrides):
        folders = [f"runs_dir={tmp_path / 'runs'}", f"data_dir={tmp_path / 'data'}"]
        first = preflight.check(normalise(["optimizer=adam", *folders, *overrides]))
        preflight.check_writable(first.runs_dir)
        return first

    return call


def test_good_input_passes(check):
    assert check("seed=0,1", "task=digits,tinyshakespeare").seed == 0


def test_what_may_be_null_passes_as_null(check):
    assert check("optimizer=kfac", "optimizer.max_dimension=null").seed == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer=adamm"], r"Unknown optimizer: 'adamm'\. Did you mean: adam"),
        (["optimizer=sgd,adafischer"], r"Unknown optimizer: 'adafischer'.*adafisher"),
        (["task=digit"], r"Unknown task: 'digit'\. Did you mean: digits"),
        (["task=xyzzy"], r"Unknown task: 'xyzzy'\. Known: .*digits.*tinyshakespeare"),
        (["model=resnet"], r"Unknown model: 'resnet'.*resnet18"),
        (["model=null"], r"Invalid model: null\. Must be one of: .*small_cnn"),
        (["schedule=cosin"], r"Unknown schedule: 'cosin'.*cosine"),
        (["experiment=none_such"], r"Unknown experiment: 'none_such'"),
        (["optimizer.lrr=1"], r"Unknown key: 'optimizer\.lrr'\. Did you mean: optimizer\.lr"),
        (
            ["+optimizer.suite.needs.modl=true"],
            r"'optimizer\.suite\.needs\.modl'\. Did you mean: mod",
        ),
        (["+pretrained.sauce=x"], r"Unknown key: 'pretrained\.sauce'\. Did you mean: source"),
        (["optimzer=adam"], r"Unknown key: 'optimzer'\. Did you mean: optimizer"),
        (["optimizer.lr=abc"], r"Invalid optimizer\.lr: 'abc'\. Must be a number"),
        (["optimizer.lr=null"], r"Invalid optimizer\.lr: None\. Must be a number"),
        (["optimizer.lr=0.1,abc"], r"Invalid optimizer\.lr: 'abc'\. Must be a number"),
        (["optimizer.lr=-1"], r"Invalid optimizer\.lr: -1\. Must be finite and >= 0"),
        (["optimizer.lr=nan"], r"Invalid optimizer\.lr: nan\. Must be finite and >= 0"),
        # torch itself takes these: the run would be one of a method that diverges.
        (
            ["optimizer=sgd", "optimizer.momentum=nan"],
            r"Invalid optimizer\.momentum: nan\.",
        ),
        (["optimizer.lr=0.1,nan"], r"Invalid optimizer\.lr: nan\. Must be finite and >= 0"),
        (
            ["optimizer.betas=[nan,0.9]"],
            r"Invalid optimizer\.betas: \[nan, 0\.9\]\.",
        ),
        (["optimizer.betas=[0.9]"], r"Invalid optimizer\.betas: \[0\.9\]\. Must be a list of 2"),
        (["optimizer.amsgrad=3"], r"Invalid optimizer\.amsgrad: 3\. Must be true or false"),
        (["optimizer=adafisher", "optimizer.damping=0"], r"adafisher: Invalid damping: 0"),
        (["optimizer=adafisher", "optimizer.normalize=x"], r"Invalid normalize: 'x'.*after"),
        (
            ["optimizer=kfac", "optimizer.damping=-1"],
            r"Invalid optimizer\.damping: -1\. Must",
        ),
        (["optimizer=shampoo", "optimizer.interval=0"], r"optimizer=shampoo: .*interval.*0"),
        (
            ["+optimizer.foo=1"],
            r"Unknown key: 'optimizer\.foo'\. torch\.optim\.Adam has no",
        ),
        (["seed=-1"], r"Invalid seed: -1\. Must be >= 0"),
        (["seed=x"], r"Invalid seed: 'x'\. Must be a whole number"),
        (["seed=1.5"], r"Invalid seed: 1\.5\. Must be a whole number"),
        (["seed=["], r".+"),
        (["threads=0"], r"Invalid threads: 0\. Must be a whole number >= 1, or null"),
        (["jobs=0"], r"Invalid jobs: 0\. Must be a whole number >= 1"),
        (["processes=0"], r"Invalid processes: 0\. Must be a whole number >= 1"),
        (["memory_limit_gb=0"], r"Invalid memory_limit_gb: 0\. Must be a number > 0, or null"),
        (["memory_limit_gb=inf"], r"Invalid memory_limit_gb: inf\. Must be a number > 0, or null"),
        (["memory_limit_gb=x"], r"Invalid memory_limit_gb: 'x'\. Must be a number > 0, or null"),
        (["device=tpu"], r"Invalid device: 'tpu'\. Must be one of: auto, cpu"),
        (["budget=steps"], r"Missing value: budget\.steps"),
        (["budget.epochs=0"], r"Invalid budget\.epochs: 0\. Must be a whole number >= 1"),
        (["budget=train_seconds"], r"Missing value: budget\.train_seconds"),
        (
            ["budget=train_seconds", "budget.train_seconds=-1"],
            r"Invalid budget\.train_seconds: -1\. Must be a number > 0",
        ),
        (["budget=target"], r"Missing value: budget\.target"),
        (
            ["budget=target", "budget.target=high"],
            r"Invalid budget\.target: high\. Must be a number",
        ),
        (
            ["budget=match_seconds", "budget.match_seconds=adamm"],
            r"Invalid budget\.match_seconds: 'adamm'\. Must be one of: .*adam",
        ),
        (
            ["budget=match_seconds", "budget.reference_steps=0.5"],
            r"Invalid budget\.reference_steps: 0\.5\. Must be a whole number >= 1",
        ),
        (
            ["budget=match_seconds", "processes=2"],
            r"Invalid processes: 2. With budget=match_seconds it must be 1",
        ),
        (["task.batch_size=0"], r"Invalid task\.batch_size: 0\. Must be a whole number >= 1"),
        (["tracking.mode=on"], r"Invalid tracking\.mode: 'on'\. Must be one of: auto"),
        (["task=mnist"], r"mnist"),
        (["task=cifar10_jpeg"], r"cifar10-jpeg\.tar\.xz"),
        (["task=wikitext2"], r"wikitext"),
        (["task=ptb"], r"ptb"),
        (["task=cifar10"], r"cifar"),
        (["runs_dir=/dev/null/x"], r"Cannot write to runs_dir /dev/null/x: Not a directory"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(check, overrides, message):
    with pytest.raises(UserError, match=message) as caught:
        check(*overrides)
    assert "\n" not in str(caught.value)
