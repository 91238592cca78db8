"""The command: what it refuses, in which order it works, and how it ends."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from experiments.records.schema import load_runs
from experiments.records.strict_json import dumps
from experiments.records.verdict import FILE, FOLDER
from experiments.tuning import tune
from experiments.tuning.trial_scores import Trial
from experiments.versus import versus
from experiments.versus.series import Series
from tests.support.commands import exit_code

ROOT = Path(__file__).resolve().parents[3]
PAIR = ["optimizer=adam", "against=sgd", "task=digits"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (PAIR[1:], "Missing value: optimizer. Give it as optimizer=<value>."),
        (PAIR[:2], "Missing value: task. Give it as task=<value>."),
        ([*PAIR, "against=sdg"], "Unknown optimizer: 'sdg'. Did you mean: sgd?"),
        ([*PAIR, "against=adam"], "Invalid against: 'adam'. Must be another method."),
        ([*PAIR, "optimizer=adam,adamw"], "Invalid optimizer: 'adam,adamw'. Must be one method."),
        ([*PAIR, "task=digitts"], "Unknown task: 'digitts'."),
        (
            [*PAIR, "task=digits,digits"],
            "Invalid task: 'digits,digits'. Each may stand there once.",
        ),
        (
            ["optimizer=torch.optim.NAdam", "against=torch.optim.Adagrad", "task=digits"],
            "Invalid against: 'torch.optim.Adagrad'. One of the two must be a name in conf/",
        ),
        ([*PAIR, "trials=2"], "Invalid trials: 2. Must be an even number >= 4."),
        ([*PAIR, "trials=7"], "Invalid trials: 7. Must be an even number >= 4."),
        ([*PAIR, "seeds=1,2"], "Invalid seeds: 1. Must be >= 1000"),
        ([*PAIR, "margin=0"], "Invalid margin: 0.0. Must be > 0, in units of the metric."),
        ([*PAIR, "margin=nan"], "Invalid margin: nan. Must be > 0"),
        ([*PAIR, "epochs=0"], "Invalid epochs: 0. Must be a whole number >= 1."),
        ([*PAIR, "budget=steps"], "Invalid override: budget=steps. Both methods get the training"),
        ([*PAIR, "budget.epochs=3"], "Invalid override: budget.epochs=3. Both methods get"),
        ([*PAIR, "ruleset=tuned"], "Invalid override: ruleset=tuned. Both methods get"),
        ([*PAIR, "seed=3"], "Invalid override: seed=3."),
        ([*PAIR, "optimizer.lr=1"], "Invalid override: optimizer.lr=1."),
        ([*PAIR, "task.batch_size=many"], "Invalid task.batch_size: 'many'"),
    ],
)
def test_what_is_refused_is_one_line_and_code_2(words, line, capsys, tmp_path):
    assert exit_code("versus", *words, f"runs_dir={tmp_path / 'runs'}") == 2
    told = capsys.readouterr()
    assert told.err.startswith(f"error: {line}"), told.err
    assert told.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


class Stage:
    """Stands in for trials, runs and statistics, and keeps what was asked of them."""

    def __init__(self, verdicts, scores):
        self.verdicts, self.scores = verdicts, scores
        self.tuned, self.trained, self.looks = [], [], []

    def search(self, name, task, options, overrides):
        self.tuned.append((name, task, options.trials, options.again))
        trial = Trial({"lr": 0.5}, "done", self.scores[name], 1.0)
        return tune.Tuning([], [trial], {"trials": options.trials * (1 + options.again)})

    def train(self, series, seeds):
        budget = series.config.budget
        kind = "time" if "match_seconds" in budget else "epochs"
        self.trained.append((series.config.optimizer.name, series.config.task.name, kind, seeds))
        assert series.config.optimizer.arguments["lr"] == 0.5
        return series.ids(seeds)

    def run(self, command, *, input, **options):
        request = json.loads(input)
        answer = {}
        for task, of in request["tasks"].items():
            n = len(of["theirs"])
            verdict = self.verdicts[task].get(n, "undecided")
            answer[task] = {
                **{"verdict": verdict, "final": verdict != "undecided" or n == 10, "n": n},
                **{"reason": "", "metric": "accuracy_percent", "higher_is_better": True},
                **{"ours": 1.0, "theirs": 1.0, "looks": [], "p_corrected": None, "level": 0.95},
                **{"seeds_needed": None, "speed_up": None, "cost_ratio": None},
                "equal_epochs": {"n": n, "ours": 2.0, "theirs": 1.0} if len(of) > 2 else None,
            }
        self.looks.append({task: one["n"] for task, one in answer.items()})
        return subprocess.CompletedProcess(command, 0, dumps(answer))


@pytest.fixture
def stage(monkeypatch):
    def made(verdicts, scores=None):
        stage = Stage(verdicts, scores or {"adam": 2.0, "sgd": 1.0})
        monkeypatch.setattr(tune, "search", stage.search)
        monkeypatch.setattr(Series, "train", lambda series, seeds: stage.train(series, seeds))
        monkeypatch.setattr(versus.subprocess, "run", stage.run)
        return stage

    return made


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ({"digits": {5: "better"}}, 0),
        ({"digits": {3: "worse"}}, 1),
        ({"digits": {7: "within the margin"}}, 1),
        ({"digits": {}}, 3),
        ({"digits": {5: "better"}, "generated_text": {}}, 3),
        ({"digits": {5: "better"}, "generated_text": {7: "worse"}}, 1),
        ({"digits": {5: "better"}, "generated_text": {3: "better"}}, 0),
    ],
)
def test_it_ends_with_the_code_of_its_verdict(verdicts, code, stage, tmp_path, capsys):
    stage(verdicts)
    words = [*PAIR[:2], f"task={','.join(verdicts)}", f"runs_dir={tmp_path}"]
    assert exit_code("versus", *words) == code
    (path,) = (tmp_path / FOLDER).glob(f"*/{FILE}")
    facts = json.loads(path.read_text())
    assert facts["exit_code"] == code
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == facts["sentence"]
    assert last.startswith("adam ")


def test_the_loser_is_tuned_again_before_the_looks_and_seeds_come_in_stages(stage, tmp_path):
    made = stage({"digits": {7: "better"}})
    words = [*PAIR, "trials=6", "epochs=2", f"runs_dir={tmp_path}"]
    assert exit_code("versus", *words) == 0
    assert made.tuned == [
        ("adam", "digits", 6, False),
        ("sgd", "digits", 6, False),
        ("sgd", "digits", 6, True),
    ]
    stages = [list(range(n)) for n in (3, 5, 7)]
    by_time = [(name, "digits", "time", seeds) for seeds in stages for name in ("adam", "sgd")]
    assert made.trained == [*by_time, ("adam", "digits", "epochs", list(range(7)))]
    assert made.looks == [{"digits": n} for n in (3, 5, 7, 7)]


def test_a_task_that_is_decided_gets_no_more_seeds(stage, tmp_path):
    made = stage({"digits": {3: "better"}, "generated_text": {10: "worse"}})
    words = [*PAIR[:2], "task=digits,generated_text", "equal_epochs=false", f"runs_dir={tmp_path}"]
    assert exit_code("versus", *words) == 1
    assert made.looks == [{"digits": 3, "generated_text": n} for n in (3, 5, 7, 10)]
    most = {
        task: max(len(seeds) for _, of, _, seeds in made.trained if of == task)
        for task in ("digits", "generated_text")
    }
    assert most == {"digits": 3, "generated_text": 10}


def test_asked_again_it_tunes_nothing_and_keeps_its_seeds(stage, tmp_path):
    made = stage({"digits": {3: "better"}})
    words = [*PAIR, f"runs_dir={tmp_path}"]
    assert exit_code("versus", *words) == exit_code("versus", *words) == 0
    assert len(made.tuned) == 3
    assert {tuple(seeds) for *_, seeds in made.trained} == {(0, 1, 2)}


def test_equals_in_tuning_give_the_other_one_the_trials_again(stage, tmp_path):
    made = stage({"digits": {3: "better"}}, {"adam": 1.0, "sgd": 1.0})
    assert exit_code("versus", *PAIR, f"runs_dir={tmp_path}") == 0
    assert made.tuned[-1] == ("sgd", "digits", 16, True)


def test_an_installed_class_on_either_side_has_the_time_of_the_one_in_conf(stage, tmp_path):
    made = stage({"digits": {3: "better"}}, {"torch.optim.NAdam": 1.0, "sgd": 2.0})
    for ours, theirs in (("torch.optim.NAdam", "sgd"), ("sgd", "torch.optim.NAdam")):
        words = [f"optimizer={ours}", f"against={theirs}", "task=digits", "epochs=3"]
        assert exit_code("versus", *words, f"runs_dir={tmp_path}") == 0
        assert made.trained[-1][:3] == ("torch.optim.NAdam", "digits", "epochs")


@pytest.mark.parametrize("word", ["--json", "json=true"])
def test_json_is_all_that_is_on_standard_output(word, stage, tmp_path, capfd):
    stage({"digits": {3: "better"}})
    assert exit_code("versus", *PAIR, word, f"runs_dir={tmp_path}") == 0
    told = capfd.readouterr()
    facts = json.loads(told.out)
    assert (facts["exit_code"], facts["seeds"]) == (0, list(range(10)))
    assert "look at n=3: digits better" in told.err


@pytest.mark.slow
def test_for_real_from_the_tuning_to_the_sentence(tmp_path):
    """Seconds of training: what is asked is how the parts hang together, not who is better."""
    words = ["optimizer=sgd", "against=adam", "task=digits", "trials=4", "seeds=1000", "epochs=1"]
    folders = [f"runs_dir={tmp_path / 'runs'}", f"cache_dir={tmp_path / 'cache'}"]
    command = [sys.executable, "-m", "experiments", "versus", *words, *folders, "--json"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    facts = json.loads(ended.stdout)
    assert ended.returncode == facts["exit_code"] in (0, 1, 3), ended.stderr
    (one,) = facts["results"].values()
    frozen = facts["frozen"]["digits"]
    assert sorted(frozen[side]["effort"]["trials"] for side in ("ours", "theirs")) == [4, 8]
    runs, broken = load_runs(tmp_path / "runs")
    assert broken == []
    by_id = {run.run_id: run for run in runs}
    for side, name in (("ours", "sgd"), ("theirs", "adam"), ("ours_equal_epochs", "sgd")):
        found = [by_id[one] for one in facts["runs"]["digits"][side]]
        assert [run.identity["seed"] for run in found] == list(range(one["n"]))
        assert {run.identity["optimizer"] for run in found} == {name}
        lr = frozen["theirs" if side == "theirs" else "ours"]["hyperparameters"]["lr"]
        assert {run.identity["hyperparameters"]["lr"] for run in found} == {lr}
        kind = "1 epoch" if side.endswith("epochs") else "time of 1 epoch of adam"
        assert {run.identity["budget"] for run in found} == {kind}
        config = yaml.safe_load((found[0].path / "config.yaml").read_text())
        assert config["tuning"]["chosen"] == {"lr": lr}


def test_a_record_that_lost_its_rows_is_trained_anew(tmp_path):
    frozen = {"hyperparameters": {"lr": 0.5}, "effort": {"trials": 4}}
    series = Series("adam", "digits", [f"runs_dir={tmp_path}"], frozen, tmp_path / "choice")
    (run_id,) = series.ids([0])
    kept = ROOT / "tests" / "golden" / "runs" / "sweep" / "00630c88e593"
    shutil.copytree(kept, tmp_path / run_id)
    status = tmp_path / run_id / "status.json"
    status.write_text(status.read_text().replace(kept.name, run_id))
    assert series._is_over(run_id)
    (tmp_path / run_id / "metrics.jsonl").unlink()
    assert not series._is_over(run_id)
