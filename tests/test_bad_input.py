"""Every command with every kind of bad value that means something for it: one line, exit code 2.

A line says what was wrong, the value, and what is allowed. The expected ones are written here from
the value alone. Nothing is written, no run folder is made, and nothing is trained.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from analysis.report import __main__ as report
from analysis.report import bench as report_bench
from analysis.report import paper
from experiments.__main__ import VERBS
from experiments.__main__ import main as verbs
from experiments.config import commandline
from tests.support.checkout import MAKE
from tests.support.commands import exit_code

ROOT = Path(__file__).resolve().parents[1]
FILE = "a file"
"""Lies in the folder that a command is called in."""

# What names no choice of a group, with what may stand there.
CHOICES = {
    "optimizer=adamm": r"Unknown optimizer: 'adamm'\. Did you mean: adam",
    "optimizer=adam,": r"Invalid optimizer: 'adam,'\. .*empty name; must be names with commas",
    "optimizer=adam,,sgd": r"Invalid optimizer: 'adam,,sgd'\. .*empty name; must be names with",
    "optimizer=,adam": r"Invalid optimizer: ',adam'\. .*empty name; must be names with commas",
    "optimizer=all,adam": r"Invalid optimizer: 'all,adam'\. all is every one; it must stand alone",
    "optimizer=ädam": r"Unknown optimizer: 'ädam'\. Did you mean: adam",
    "optimizer=adam sgd": r"Unknown optimizer: 'adam sgd'\. Did you mean: adam",
    "optimizer=null": r"Invalid optimizer: null\. Must be one of: .*adafisher, .*sgd",
    "optimizer=": r"Missing value: optimizer\. Give it as optimizer=<name>",
    "task=digit": r"Unknown task: 'digit'\. Did you mean: digits",
    "task=../optimizer/adam": r"Invalid task: '\.\./optimizer/adam'\. Must be a file: ",
    "task=null": r"Invalid task: null\. Must be one of: .*digits",
    "task=digits,,ptb": r"Invalid task: 'digits,,ptb'\. .*must be names with commas",
    "model=resnet": r"Unknown model: 'resnet'\. Did you mean: .*resnet18",
    "model=null": r"Invalid model: null\. Must be one of: .*small_cnn",
    "schedule=cosin": r"Unknown schedule: 'cosin'\. Did you mean: cosine",
    "budget=epoch": r"Unknown budget: 'epoch'\. Did you mean: epochs",
    "tracking=wandbb": r"Unknown tracking: 'wandbb'\. Did you mean: wandb",
    "tracking=null": r"Invalid tracking: null\. Must be one of: none, tensorboard, wandb",
    "tokenization=wrod": r"Unknown tokenization: 'wrod'\. Did you mean: word",
    "launcher=jobib": r"Unknown launcher: 'jobib'\. Did you mean: joblib",
    "ruleset=tunde": r"Unknown ruleset: 'tunde'\. Did you mean: tuned",
    "family=cmn": r"Unknown family: 'cmn'\. ",
    "experiment=tabel3": r"Unknown experiment: 'tabel3'\. Did you mean: table3",
    "optimizer=[adam,sgd]": r"Invalid optimizer: '\[adam,sgd\]'\. Must be a name, or names with",
    "optimizer={lr: 1}": r"Invalid optimizer: '\{lr: 1\}'\. Must be a name, or names with",
    "optimizer@second=adam": r"Invalid argument: .*A group has one place: leave @ out",
    "debug=3": r"Unknown debug: '3'\. Known: limit, overfit, profile",
    "debug=overft": r"Unknown debug: 'overft'\. Did you mean: overfit",
}
# Keys that nothing reads, that only files set, and that cannot be taken out.
KEYS = {
    "+foo=1": r"Unknown key: 'foo'\. ",
    "++foo=1": r"Unknown key: 'foo'\. ",
    "+foo.bar=1": r"Unknown key: 'foo'\. ",
    "foo=1": r"Unknown key: 'foo'\. ",
    "optimzer=adam": r"Unknown key: 'optimzer'\. Did you mean: optimizer",
    "optimizer.lrr=1": r"Unknown key: 'optimizer\.lrr'\. Did you mean: optimizer\.lr",
    "grids=3": r"Invalid argument: 'grids=3'\. Only the files of conf/ set grids",
    "tuning={trials: 99}": r"Invalid argument: 'tuning=.*'\. Only the files of conf/ set tuning",
    "+origin.experiment=x": r"Invalid argument: .*Only the files of conf/ set origin\.experiment",
    "recipe=ours": r"Invalid argument: 'recipe=ours'\. Only the files of conf/ set recipe",
    "~seed": r"Invalid argument: '~seed'\. Nothing can be taken out of a config; give seed a value",
    "~optimizer": r"Invalid argument: '~optimizer'\. Nothing can be taken out",
    "~optimizer.lr": r"Invalid argument: '~optimizer\.lr'\. Nothing can be taken out",
    "~optimizer.suite.needs": r"Invalid argument: '~optimizer\.suite\.needs'\. Nothing can be",
    "~tracking": r"Invalid argument: '~tracking'\. Nothing can be taken out",
    "~task.batch_size": r"Invalid argument: '~task\.batch_size'\. Nothing can be taken out",
    "seed": r"Invalid argument: 'seed'\. Must be key=value",
    "=3": r"Invalid argument: '=3'\. Must be key=value",
    "optimizer.eps=[1": r"Invalid argument: 'optimizer\.eps=\[1'\. Must be key=value, and in",
    "setting=a(b": r"Invalid argument: 'setting=a\(b'\. Must be key=value, and in quotes",
    "setting=ä": r"Invalid argument: 'setting=ä'\. Must be key=value, and in quotes what has",
    "setting=a\nb": r"Invalid argument: 'setting=a\\nb'\. Must be key=value, and in quotes",
}
# What a section holds for the suite, and what it is made of.
SECTIONS = {
    "optimizer.suite.needs=3": r"Invalid optimizer\.suite\.needs: 3\. Must be a mapping",
    "optimizer.suite.needs.model=3": r"Invalid optimizer\.suite\.needs\.model: 3\. .*true or false",
    "+optimizer.suite.needs.modl=true": r"Unknown key: 'optimizer\.suite\.needs\.modl'.*: model",
    "+optimizer.suite.famly=x": r"Unknown key: 'optimizer\.suite\.famly'\. .*: family",
    "optimizer.suite.family=3": r"Invalid optimizer\.suite\.family: 3\. Must be text",
    "optimizer.suite.name=sgd": r"Invalid optimizer\.suite\.name: 'sgd'\. Must be 'adam'",
    "optimizer.suite.shardable=3": r"Invalid optimizer\.suite\.shardable: 3\. .*true or false",
    "optimizer.suite.search=3": r"Invalid optimizer\.suite\.search: 3\. Must be a mapping",
    "optimizer.suite.neutral=[1]": r"Invalid argument: 'optimizer\.suite\.neutral=\[1\]'\. Must be",
    "optimizer.suite=3": r"Invalid optimizer\.suite: 3\. Must be a mapping",
    "task.suite.epochs=x": r"Invalid task\.suite\.epochs: 'x'\. Must be a whole number, or null",
    "model.suite.parameters=x": r"Invalid model\.suite\.parameters: 'x'\. Must be a whole number",
    "optimizer._partial_=false": r"Invalid optimizer\._partial_: False\. Must be true",
    "task._partial_=false": r"Invalid task\._partial_: False\. Must be true",
    "+optimizer._args_=[1]": r"Unknown key: 'optimizer\._args_'\. Known: _target_, _partial_",
    "optimizer._target_=3": r"Invalid optimizer\._target_: 3\. Must be text, as the default",
    "optimizer._target_=null": r"Invalid optimizer\._target_: None\. Must be text, as the default",
    "pretrained=3": r"Invalid pretrained: 3\. Must be a mapping",
    "+pretrained.sauce=x": r"Unknown key: 'pretrained\.sauce'\. Did you mean: source",
}
# Numbers, and text where there is a number.
VALUES = {
    "optimizer.lr=nan": r"Invalid optimizer\.lr: nan\. Must be finite and >= 0",
    "optimizer.lr=inf": r"Invalid optimizer\.lr: inf\. Must be finite and >= 0",
    "optimizer.lr=-0.1": r"Invalid optimizer\.lr: -0\.1\. Must be finite and >= 0",
    "optimizer.lr=1e999": r"Invalid optimizer\.lr: inf\. Must be finite and >= 0",
    "optimizer.lr=abc": r"Invalid optimizer\.lr: 'abc'\. Must be a number",
    "optimizer.lr=": r"Invalid optimizer\.lr: ''\. Must be a number",
    "optimizer.lr=true": r"Invalid optimizer\.lr: True\. Must be a number",
    "optimizer.lr=null": r"Invalid optimizer\.lr: None\. Must be a number",
    "optimizer.lr=[0.1,0.2]": r"Invalid optimizer\.lr: \[0\.1, 0\.2\]\. Must be a number",
    "optimizer.lr={a: 1}": r"Invalid optimizer\.lr: \{'a': 1\}\. Must be a number",
    "optimizer.betas=0.9": r"Invalid optimizer\.betas: 0\.9\. Must be a list of 2, each a number",
    "optimizer.betas=[0.9]": r"Invalid optimizer\.betas: \[0\.9\]\. Must be a list of 2",
    "optimizer.betas=[0.9,x]": r"Invalid optimizer\.betas: \[0\.9, 'x'\]\. .*each a number",
    "optimizer.betas=[0.9,nan]": r"Invalid optimizer\.betas: \[0\.9, nan\]\. Must be finite",
    "optimizer.betas=[-1,0.9]": r"Invalid optimizer\.betas: \[-1, 0\.9\]\. Must be finite and >= 0",
    "optimizer.amsgrad=3": r"Invalid optimizer\.amsgrad: 3\. Must be true or false",
    "seed=x": r"Invalid seed: 'x'\. Must be a whole number",
    "seed=-1": r"Invalid seed: -1\. Must be >= 0",
    "seed=1.5": r"Invalid seed: 1\.5\. Must be a whole number",
    "seed=true": r"Invalid seed: True\. Must be a whole number",
    "seed=null": r"Invalid seed: None\. Must be a whole number",
    "seed=[0]": r"Invalid seed: \[0\]\. Must be a whole number",
    "threads=0": r"Invalid threads: 0\. Must be a whole number >= 1, or null",
    "threads=x": r"Invalid threads: 'x'\. Must be a whole number >= 1, or null",
    "jobs=0": r"Invalid jobs: 0\. Must be a whole number >= 1",
    "jobs=x": r"Invalid jobs: 'x'\. Must be a whole number",
    "runs_per_job=0": r"Invalid runs_per_job: 0\. Must be a whole number >= 1",
    "processes=0": r"Invalid processes: 0\. Must be a whole number >= 1",
    "memory_limit_gb=0": r"Invalid memory_limit_gb: 0\. Must be a number > 0, or null",
    "memory_limit_gb=nan": r"Invalid memory_limit_gb: nan\. Must be a number > 0, or null",
    "retry=3": r"Invalid retry: 3\. Must be true or false",
    "fail_fast=x": r"Invalid fail_fast: 'x'\. Must be true or false",
    "deterministic=3": r"Invalid deterministic: 3\. Must be true or false",
    "evaluate_test=no way": r"Invalid evaluate_test: 'no way'\. Must be one of: true, false, best",
    "evaluate_test=1": r"Invalid evaluate_test: 1\. Must be one of: true, false, best",
    "curvature_by_layer=3": r"Invalid curvature_by_layer: 3\. Must be true or false",
    "judged_by=nope": r"Invalid judged_by: 'nope'\. Must be one of: accuracy_percent, loss",
    "judged_by=3": r"Invalid judged_by: 3\. Must be one of: accuracy_percent, loss",
    "task.batch_size=x": r"Invalid task\.batch_size: 'x'\. Must be a whole number",
    "task.test_fraction=inf": r"Invalid task\.test_fraction: inf\. Must be finite",
    "pretrained.minimum_percent=nan": r"Invalid pretrained\.minimum_percent: nan\. Must be finite",
    "budget=steps": r"Missing value: budget\.steps\. Give it as budget\.steps=<value>",
    "data_dir='${oc.env:NO_SUCH}/data'": r"Invalid data_dir: .*'NO_SUCH' not found",
    "setting=[1]": r"Invalid setting: \[1\]\. Must be text, or null",
    "optimizer.lr='${'": r".*\$\{",
    "optimizer.lr='${nope}'": r"Invalid optimizer\.lr: .*'nope' not found",
    "runs_dir=''": r"Missing value: runs_dir\. Give it as runs_dir=<folder>",
    "runs_dir=null": r"Invalid runs_dir: None\. Must be text, as the default 'runs'",
    "data_dir=": r"Missing value: data_dir\. Give it as data_dir=<folder>",
    "cache_dir=[a]": r"Invalid cache_dir: \['a'\]\. Must be text, as the default",
    f"runs_dir='{FILE}'": rf"Invalid runs_dir: '{FILE}'\. It is a file; must be a folder",
    f"data_dir='{FILE}'": rf"Invalid data_dir: '{FILE}'\. It is a file; must be a folder",
}
# What Hydra has of its own.
HYDRAS = {
    "hydra.mode=MULTIRUN": r"Invalid hydra\.mode: MULTIRUN\. Leave it out: -m \(--multirun\)",
    "hydra.mode=RUN": r"Invalid hydra\.mode: RUN\. Leave it out: -m \(--multirun\)",
    "hydra.mode=X": r"Invalid argument: 'hydra\.mode=X'\. Must be .*MULTIRUN",
    "+hydra.sweeper.params.seed='0,1'": r"Invalid argument: .*A sweep is typed as key=a,b with -m",
    "hydra/sweeper=basic": r"Invalid argument: .*A sweep is typed as key=a,b with -m",
    "hydra/launcher=nope": r"Unknown hydra/launcher: 'nope'\. .*joblib, ray",
    "launcher.nope=1": r"Unknown key: 'launcher\.nope'\. Did you mean: launcher",
}
# What a run is tried out for before it starts, beyond its composition.
TRIED = {
    "device=tpu": r"Invalid device: 'tpu'\. Must be one of: auto, cpu",
    "precision=fp8": r"Invalid precision: 'fp8'\. Must be one of: fp32",
    "compile=3": r"Invalid compile: 3\. Must be true or false",
    "channels_last=x": r"Invalid channels_last: 'x'\. Must be one of: auto",
    "distributed=x": r"Invalid distributed: 'x'\. Must be one of: ddp, fsdp",
    "loss_scale=-1": r"Invalid loss_scale: -1\. Must be a finite number > 0, or null",
    "control=x": r"Invalid control: 'x'\. Must be .*scalar",
    "budget.epochs=0": r"Invalid budget\.epochs: 0\. Must be a whole number >= 1",
    "budget.epochs=1.5": r"Invalid budget\.epochs: 1\.5\. Must be a whole number >= 1",
    "+budget.steps=3": r"Invalid budget: .*Must be exactly one of: epochs, steps",
    "task.batch_size=0": r"Invalid task\.batch_size: 0\. Must be a whole number >= 1",
    "pretrained.source=none_such": r".*none_such",
    "pretrained.minimum_percent=101": r".*101",
    "+optimizer.foo=1": r"Unknown key: 'optimizer\.foo'\. torch\.optim\.Adam has no such argument",
    "+task.foo=1": r"Unknown key: 'task\.foo'\. experiments\.tasks\.digits\.build has no such",
    "+model.foo=1": r"Unknown key: 'model\.foo'\. experiments\.models\.small_cnn\.SmallCNN has no",
    "+schedule.foo=1": r"Unknown key: 'schedule\.foo'\. experiments\.schedule\.cosine has no such",
    "+tracking.foo=1": r"Unknown key: 'tracking\.foo'\. experiments\.tracking\.wandb\.start has no",
    "tracking.mode=on": r"Invalid tracking\.mode: 'on'\. Must be one of: auto, online, offline",
    "tracking._target_=no.start": r"Invalid tracking\._target_: 'no\.start'\. Must name a function",
    "tracking._target_=torch.optim.SGD": r"Invalid tracking\._target_: .*Must start a mirror, as",
    "tracking._target_=3": r"Invalid tracking\._target_: 3\. Must be text",
    "optimizer._target_=torch.optim.No": r"Invalid optimizer\._target_: 'torch\.optim\.No'\. Must",
    "optimizer._target_=no.such.Thing": r"Invalid optimizer\._target_: .*No module named 'no'",
    "task._target_=experiments.tasks.digits.SOURCE": r"Invalid task\._target_: .*Must name a func",
    "model._target_=small": r"Invalid model\._target_: 'small'\. Must name a function or class",
    "model=gpt_tiny": r"Invalid model: 'gpt_tiny'\. .*task=digits.* Must be one of: .*small_cnn",
    "tokenization=bpe": r"Invalid tokenization: 'bpe'\. task=digits has no text",
    "task=cifar10": r".*cifar",
    "runs_dir=/dev/null/x": r"Cannot write to runs_dir /dev/null/x: Not a directory",
}
SINGLE = {
    "seed=0,1": r"Invalid seed: '0,1'\. Several values are a sweep: give -m \(--multirun\)",
    "seed=range(0,3)": r"Invalid seed: 'range\(0,3\)'\. Several values are a sweep: give -m",
    "optimizer=all": r"Invalid optimizer: 'ada.*Several values are a sweep: give -m",
    "optimizer=glob(ada*)": r"Invalid optimizer: 'glob\(ada\*\)'\. Several values are a sweep",
    "optimizer.lr=choice(1,2)": r"Invalid optimizer\.lr: .*Several values are a sweep: give -m",
    "experiment=schedules": r"Invalid argument: 'experiment=schedules'\. It is a sweep, which -m",
    "processes=2": r"Invalid processes: 2\. It is for sweeps",
    "--config-name=other": r"--config-name is none of ours: what is composed lies in conf/",
    "--config-dir=.": r"--config-dir is none of ours: what is composed lies in conf/",
    "--config-path=.": r"--config-path is none of ours: what is composed lies in conf/",
    "--experimental-rerun=x": r"--experimental-rerun is none of ours: use `make replay",
    "--resolve": r"--resolve goes with --cfg alone",
    "--cfg=x": r"Invalid arguments: argument --cfg/-c: invalid choice: 'x'",
    "--nonsense": r"Invalid arguments: unrecognized arguments: --nonsense",
}
SWEPT = {
    "seed=range(0,0)": r"Invalid seed: range\(0,0\)\. It stands for no value: nothing would run",
    "seed=range(0,5,0)": r"Invalid seed: range\(0,5,0\)\. It stands for no value",
    "seed=range(0,9999999)": r"Invalid seed: range\(0,9999999\)\. Must be at most 100,000 values",
    "optimizer=glob(zzz*)": r"Invalid optimizer: glob\(zzz\*\)\. It stands for no value",
    "seed=0,": r"Invalid argument: 'seed=0,'\. Must be key=value.*of several values none is empty",
    "seed=0,x": r"Invalid seed: 'x'\. Must be a whole number",
    "seed=0,-1": r"Invalid seed: -1\. Must be >= 0",
    "optimizer=sgd,adamm": r"Unknown optimizer: 'adamm'\. Did you mean: adam",
    "optimizer.lr=0.1,nan": r"Invalid optimizer\.lr: nan\. Must be finite and >= 0",
    "task=digits,digit": r"Unknown task: 'digit'\. Did you mean: digits",
    "--cfg=job": r"--cfg shows the config of one run: leave --multirun and --run out",
    "--info=all": r"--info shows the config of one run: leave --multirun and --run out",
    "--run": r"--run and --multirun: must be one of them",
    "launcher=submitit_slurm": r"launcher=submitit_slurm: there is no sbatch or srun\. Use local",
    "jobs=2": r"Invalid jobs: 2\. launcher=local runs one after another; launcher=joblib",
}
# One of each kind, for the commands that compose in the same way.
KINDS = {
    **{key: CHOICES[key] for key in ("optimizer=ädam", "optimizer=null", "model=null")},
    **{key: CHOICES[key] for key in ("task=../optimizer/adam", "schedule=cosin", "model=resnet")},
    **{key: KEYS[key] for key in ("+foo=1", "grids=3", "~seed", "setting=ä", "optimizer.lrr=1")},
    **{key: SECTIONS[key] for key in ("optimizer.suite.needs=3", "optimizer._partial_=false")},
    **{key: VALUES[key] for key in ("optimizer.lr=nan", "optimizer.betas=[0.9,x]", "jobs=0")},
    **{key: VALUES[key] for key in ("optimizer.lr={a: 1}", "data_dir='${oc.env:NO_SUCH}/data'")},
    **{key: HYDRAS[key] for key in ("hydra.mode=MULTIRUN", "hydra/sweeper=basic")},
}


def without(cells: dict[str, str], *keys: str) -> dict[str, str]:
    return {word: line for word, line in cells.items() if not word.lstrip("+~").startswith(keys)}


TRAIN = {**CHOICES, **KEYS, **SECTIONS, **VALUES, **HYDRAS, **TRIED, **SINGLE}
SWEEP = {
    **KINDS,
    **SWEPT,
    "device=tpu": TRIED["device=tpu"],
    "model=gpt_tiny": TRIED["model=gpt_tiny"],
}
PLAN = {**without(KINDS), **without(SWEPT, "--", "launcher=", "jobs=")}
TUNE = {
    **without(KINDS, "optimizer.", "data_dir", "task=", "optimizer=", "seed"),
    "optimizer.lr=1": r"Invalid override: optimizer\.lr=1\. The tuned file would not hold it",
    "seed=0": r"Invalid override: seed=0\. The seeds of the trials are seeds=",
    "experiment=nope": r"Unknown experiment: 'nope'\. Known: schedules, ",
    "debug=limit": r"Invalid override: debug=limit\. A trial is a whole run",
    "trials=many": r"Invalid trials: 'many'\. Must be a whole number",
    "trials=0": r"Invalid trials: 0\. Must be a whole number >= 1",
    "trials=2": r"Invalid trials: 2\. Must be >= 4 with sampler=grid",
    "trials=": r"Missing value: trials\. Give it as trials=<value>",
    "seeds=0,1": r"Invalid seeds: 0\. Must be >= 1000",
    "seeds=1000,": r"Invalid seeds: '1000,'\. .*must be values with commas between",
    "seeds=1000,1000": r"Invalid seeds: \(1000, 1000\)\. Each may stand there once",
    "seeds=x": r"Invalid seeds: 'x'\. Must be a whole number",
    "sampler=random": r"Invalid sampler: 'random'\. Must be one of: grid, full_grid, sobol, tpe",
    "pruner=all": r"Invalid pruner: 'all'\. Must be one of: none, median, halving",
    "startup=-1": r"Invalid startup: -1\. Must be a whole number >= 0",
    "optimizer=": r"Missing value: optimizer\. ",
    "optimizer=adamm": r"Unknown optimizer: 'adamm'\. Did you mean: adam",
    "optimizer=all,sgd": r"Invalid optimizer: 'all,sgd'\. all is every one; it must stand alone",
    "task=digits,": r"Invalid task: 'digits,'\. .*empty name; must be names with commas",
    "task.validation_fraction=0": r"Invalid task\.validation_fraction: 0\. Must be > 0",
    "budget.epochs=1,2": r"Invalid budget\.epochs: '1,2'\. Several values are a sweep",
    f"data_dir={FILE}": rf"Invalid data_dir: '{FILE}'\. It is a file; must be a folder",
}
STUDY = {
    **without(KINDS, "data_dir", "seed", "optimizer.betas"),
    "study=no": r"Unknown study: 'no'\. Must be one of: .*landscape, .*all, missing",
    "study=": r"Missing value: study\. ",
    "study=kronecker,": r"Invalid study: 'kronecker,'\. .*must be values with commas between",
    "figure=x": r"Invalid figure: x\. Goes with study=missing only",
    "steps=x": r"study=kronecker: Invalid steps: 'x': .*list",
    "steps=1,2": r".*Invalid steps: steps=1,2\. A study takes one value",
    "word": r"Invalid argument: 'word'\. Must be key=value",
    "seed=0,1": r"Invalid seed: '0,1'\. Several values are a sweep",
    "runs_dir=": r"Missing value: runs_dir\. Give it as runs_dir=<value>",
    f"runs_dir={FILE}": rf"Invalid runs_dir: '{FILE}'\. It is a file; must be a folder",
    "data_dir=${oc.env:NO_SUCH}": r"Invalid data_dir: .*'NO_SUCH' not found",
}
PUBLISH = {
    **{word: KINDS[word] for word in ("+foo=1", "~seed", "setting=ä", "optimizer.lr=nan")},
    "tracking=wandbb": CHOICES["tracking=wandbb"],
    "tracking=none,wandb": r"Invalid tracking: 'none,wandb'\. Several values are a sweep",
    "runs_dir=''": VALUES["runs_dir=''"],
    "out=": r"Missing value: out\. Give it as out=<value>",
    f"out={FILE}": rf"Invalid out: '{FILE}'\. It is a file; must be a folder",
    "out=nowhere": r"Nothing to publish in nowhere: `make report figures` writes tables",
    "out=${oc.env:NO_SUCH}": r"Invalid out: .*'NO_SUCH' not found",
}
# Commands of options of their own, in which none composes a run.
FOLDERS = {
    "runs_dir=": r"Missing value: runs_dir\. Give it as runs_dir=<value>",
    'runs_dir=""': r"Missing value: runs_dir\. Give it as runs_dir=<value>",
    "runs_dirr=x": r"Unknown key: 'runs_dirr'\. Did you mean: runs_dir",
    "runs": r"Invalid argument: 'runs'\. Must be key=value, of: .*runs_dir",
    f"runs_dir={FILE}": rf"Invalid runs_dir: '{FILE}'\. It is a file; must be a folder",
    "runs_dir=${oc.env:NO_SUCH}/r": r"Invalid runs_dir: .*'NO_SUCH' not found",
    "runs_dir=${no": r"Invalid runs_dir: .*\$\{no",
}
OTHERS = {
    "status": FOLDERS,
    "calibration": {
        **FOLDERS,
        "runs_dir=none": r"No finished run of budget=match_seconds in none",
        "out=": r"Missing value: out\. Give it as out=<value>",
    },
    "steps": {
        "name=a/b": r"Invalid name: 'a/b'\. Must be of letters, digits, _ and -",
        "name=": r"Missing value: name\. Give it as name=<value>",
        "name=epochs": r"Invalid name: 'epochs'\. It is a budget that nobody measured",
        "budget=epochs": r"Invalid budget: 20 epochs\. Must be match_seconds",
        "budget.match_seconds=adafisha": r"Invalid budget\.match_seconds: 'adafisha'\. Must be",
        "again=perhaps": r"Invalid again: 'perhaps'\. Must be true or false",
        "model.width=8,16": r"Invalid argument: several settings",
    },
    "wandb_sync": {**FOLDERS, "runs_dir=none": r"runs_dir .*none: no such folder"},
    "migrate": {
        **FOLDERS,
        "runs_dir=none": r"Invalid runs_dir: 'none'\. Must be a folder of run records",
    },
    "golden": {
        **FOLDERS,
        "runs_dir=none": r"Invalid runs_dir: 'none'\. There are no records in it",
        "out=": r"Missing value: out\. Give it as out=<value>",
        f"out={FILE}": rf"Invalid out: '{FILE}'\. It is a file; must be a folder",
        "out=runs": r"Invalid out: 'runs'\. Must not be runs_dir",
        "stale=burn": r"Invalid stale: 'burn'\. Must be one of: keep, remove",
    },
    "replay": {
        **FOLDERS,
        "run=": r"Missing value: run\. Give it as run=<value>",
        "run=none": r"Invalid run: 'none'\. Must be the id of a run in runs or in",
        "run=a\nb": r"Invalid run: 'a\\nb'\. Must be the id of a run in runs or in",
        "code=newest": r"Invalid code: 'newest'\. Must be one of: current, recorded",
        "rtol=-1": r"Invalid rtol: '-1'\. Must be a number >= 0",
        "rtol=nan": r"Invalid rtol: 'nan'\. Must be a number >= 0",
        "rtol=x": r"Invalid rtol: 'x'\. Must be a number >= 0",
    },
    "data": {
        "task=": r"Missing value: task\. ",
        "task=digit": r"Unknown task: 'digit'\. Did you mean: digits",
        "task=digits,,mnist": r"Invalid task: 'digits,,mnist'\. .*must be names with commas",
        "task=all,mnist": r"Invalid task: 'all,mnist'\. all is every one; it must stand alone",
        "task=null": r"Invalid task: null\. Must be one of: .*digits",
        "task=../model/gpt_tiny": r"Invalid task: '\.\./model/gpt_tiny'\. Must be a file: ",
        "data_dir=": r"Missing value: data_dir\. Give it as data_dir=<value>",
        f"data_dir={FILE}": rf"Invalid data_dir: '{FILE}'\. It is a file; must be a folder",
        "data_dir=${oc.env:NO_SUCH}/d": r"Invalid data_dir: .*'NO_SUCH' not found",
        "folder=x": r"Unknown key: 'folder'\. ",
    },
    "recipes": {
        "fil=x": r"Unknown key: 'fil'\. Did you mean: file",
        "file=": r"Missing value: file\. Give it as file=<value>",
        "word": r"Invalid argument: 'word'\. Must be key=value, of: file",
    },
    "bench": {
        "part=x": r"Unknown part: 'x'\. Must be one of: adafisher, methods, forms, data",
        "models=resnet18": r"Missing value: part\. 'models=resnet18' is of one of: adafisher",
        "quick=maybe": r"Invalid quick: 'maybe'\. Must be true or false",
        "threads=x": r"Invalid threads: 'x'\. Must be a whole number",
        "threads=0": r"Invalid threads: 0\. Must be >= 1",
        f"out={FILE}": rf"Invalid out: '{FILE}'\. It is a file; must be a folder",
        "device=tpu": r"Invalid device: 'tpu'\. Must be one of: auto, cpu",
        "out=": r"Missing value: out\. Give it as out=<value>",
    },
}
GIVEN = {
    "train": ["optimizer=adam", "task=digits"],
    "-m": ["optimizer=adam", "task=digits", "tracking=none"],
    "plan": ["optimizer=adam", "task=digits", "seed=0,1"],
    "tune": ["optimizer=adam", "task=digits"],
    "study": ["study=kronecker"],
    "data": ["task=digits"],
    "replay": ["run=none"],
    "golden": ["out=copy"],
    "steps": ["name=x", "task=digits", "budget=match_seconds"],
}
MATRIX = [
    (verb, word, line)
    for verb, cells in {
        "train": TRAIN,
        "-m": SWEEP,
        "plan": PLAN,
        "tune": TUNE,
        "study": STUDY,
        "publish": PUBLISH,
        **OTHERS,
    }.items()
    for word, line in cells.items()
]
# A number that no method can have, for each method alike.
METHODS = [
    (name, key, value)
    for name in commandline.choices("optimizer")
    for key, value in (("lr", "nan"), ("weight_decay", "inf"))
]


@pytest.fixture(autouse=True)
def nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Call the commands in a folder of a test's own, and look at it and at the checkout after."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_SUCH", raising=False)
    (tmp_path / FILE).write_text("text")
    before = sorted(os.listdir(ROOT))
    yield
    assert [path.name for path in tmp_path.rglob("*")] == [FILE]
    assert sorted(os.listdir(ROOT)) == before


def refused(verb: str, words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(verb, *words) == 2
    printed = capsys.readouterr()
    (only,) = printed.err.splitlines()
    assert re.match(rf"error: {line}", only), only
    assert len(only) < 700
    assert "Traceback" not in printed.out + printed.err


@pytest.mark.parametrize(
    ("verb", "word", "line"), MATRIX, ids=[f"{verb}-{word}" for verb, word, _ in MATRIX]
)
def test_a_bad_value_is_one_line(
    verb: str, word: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*GIVEN.get(verb, []), word]
    if verb == "-m":
        verb, words = "train", ["-m", *words]
    refused(verb, words, line, capsys)


@pytest.mark.parametrize(("name", "key", "value"), METHODS)
def test_a_number_that_none_can_have_is_refused_for_every_method(
    name: str, key: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = rf"Invalid optimizer\.{key}: {value}\. Must be finite and >= 0\."
    refused("train", ["task=digits", f"optimizer={name}", f"optimizer.{key}={value}"], line, capsys)


def test_there_are_as_many_cells_as_commands_and_kinds_ask_for() -> None:
    assert len(MATRIX) + len(METHODS) + len(REPORTS) + len(MAKES) >= 300


REPORTS = [
    (command, words, line)
    for command in (report, paper)
    for words, line in (
        (["--runs", "typo"], r"--runs is not a folder: typo\. Must be one of records"),
        (["--runs", FILE], rf"--runs is not a folder: {FILE}\. Must be one of records"),
        (["--runs", ""], r"argument --runs: must name a folder, and is empty"),
        (["--out", ""], r"argument --out: must name a folder, and is empty"),
        (["--nonsense"], r"unrecognized arguments: --nonsense\. See --help"),
        (["word"], r"unrecognized arguments: word\. See --help"),
        (["--runs"], r"argument --runs: expected one argument\. See --help"),
    )
]
REPORTS += [
    (report, ["--only", "x"], r"Unknown table or figure: x\. Must be one of: "),
    (report, ["--tables-only", "--figures-only"], r"argument --figures-only: not allowed with"),
    (report_bench, ["--runs", "0"], r"Invalid --runs: 0\. Must be >= 1"),
    (report_bench, ["--runs", "x"], r"argument --runs: invalid int value: 'x'\. See --help"),
    (report_bench, ["--epochs", "-1"], r"Invalid --epochs: -1\. Must be >= 1"),
]


@pytest.mark.parametrize(
    ("command", "words", "line"),
    REPORTS,
    ids=[f"{command.__name__}-{' '.join(words)}" for command, words, _ in REPORTS],
)
def test_a_report_is_not_made_of_nothing(command, words, line, capsys) -> None:
    try:
        code = command.main(words)
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    (only,) = capsys.readouterr().err.splitlines()
    assert re.match(rf"error: {line}", only), only


def test_a_good_report_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, empty = tmp_path / "out", tmp_path / "empty"
    out.mkdir()
    empty.mkdir()
    page = out / "report.html"
    page.write_text("good")
    for runs in ("typo", str(empty)):
        assert report.main(["--runs", runs, "--out", str(out)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert [page.read_text(), *os.listdir(out)] == ["good", "report.html"]
    page.unlink()
    out.rmdir()
    empty.rmdir()


MAKES = [
    ("sweep", "RUNS=", r"RUNS is empty: give it a value, or leave it out"),
    ("plan", "RUNS= ", r"RUNS is empty: give it a value, or leave it out"),
    ("status", "RUNS=", r"RUNS is empty: give it a value, or leave it out"),
    ("report", "OUT=", r"OUT is empty: give it a value, or leave it out"),
    ("paper", "OUT=", r"OUT is empty: give it a value, or leave it out"),
    ("bench", "OUT=", r"OUT is empty: give it a value, or leave it out"),
    ("data", "DATA=", r"DATA is empty: give it a value, or leave it out"),
    ("data", "TASK=", r"TASK is empty: give it a value, or leave it out"),
    ("sweep", "OPT=", r"OPT is empty: give it a value, or leave it out"),
    ("sweep", "SEEDS=", r"SEEDS is empty: give it a value, or leave it out"),
    ("tune", "TRIALS=", r"TRIALS is empty: give it a value, or leave it out"),
    ("replay", "RUN=a\nb", r"RUN has a line break: it must be one line"),
    ("sweep", "OPT=adam\nsgd", r"OPT has a line break: it must be one line"),
    ("sweep", "ARGS=a=1\nb=2", r"ARGS has a line break: it must be one line"),
    ("figures", "FIG=a\nb", r"FIG has a line break: it must be one line"),
    ("sweep", "JOBS=0", r"JOBS=0: must be a whole number of at least 1"),
]


@pytest.mark.parametrize(
    ("target", "variable", "line"), MAKES, ids=[f"{target}-{word!r}" for target, word, _ in MAKES]
)
def test_make_refuses_before_it_runs_anything(target: str, variable: str, line: str) -> None:
    command = [MAKE, "--no-print-directory", "-s", "-C", str(ROOT), target, variable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    first, *more = done.stderr.splitlines()
    assert re.search(rf"error: {line}", first)
    assert all(other.startswith("make") for other in more)


@pytest.mark.parametrize("word", ["-h", "--help"])
@pytest.mark.parametrize("verb", [None, *(verb for verb in VERBS if verb != "train")])
def test_who_asks_for_help_is_told(
    verb: str | None, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verbs([word] if verb is None else [verb, word]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in VERBS) if verb is None else len(told) > 60
