"""Verdicts over records written for the purpose: what counts for a published row, and what not."""

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import scipy.stats

from analysis.published.numbers import read_published
from analysis.published.shipped import shipped
from analysis.published.verdict import COLUMNS, OUTCOMES, RULE, beside, counts, verdicts
from analysis.results.load import load_results
from tests.support.published import PLAIN, identity_of, recipe_of

ADAM = ("cifar10", "resnet18", "scratch", "adam")  # published: 94.85, std 0.1
SGD = ("cifar10", "resnet18", "scratch", "sgd")  # published: 95.64, no std
NAMES = ["dataset", "model", "setting", "optimizer"]


def image_run(optimizer: str = "adam", **changes: Any) -> dict[str, Any]:
    """Identity of a run that follows the protocol of a row of Table 2: ResNet-18 on CIFAR-10."""
    return identity_of(recipe_of(2, "cifar10", "resnet18", optimizer), **changes)


@pytest.fixture
def seeds(write_run: Any) -> Any:
    def write(values: list[float], **identity: Any) -> None:
        for seed, value in enumerate(values):
            # The best epoch, which is published, is not the last one.
            write_run(seed=seed, values=(value - 9, value, value - 1), **image_run(**identity))

    return write


def row_of(made: pd.DataFrame, key: tuple[str, ...] = ADAM) -> pd.Series:
    (row,) = [row for _, row in made.iterrows() if tuple(row[NAMES]) == key]
    return row


@pytest.fixture
def judged(runs_dir: Path) -> Any:
    def judge(key: tuple[str, ...] = ADAM) -> pd.Series:
        return row_of(verdicts(load_results(runs_dir)), key)

    return judge


def test_without_runs_every_row_says_what_to_run_or_why_nothing_can(runs_dir: Path) -> None:
    made = verdicts(load_results(runs_dir))

    assert list(made.columns) == list(COLUMNS)
    assert len(made) == len(read_published())
    assert counts(made) == dict(zip(OUTCOMES, (0, 0, 0, 14, 145), strict=True))
    row = row_of(made)
    assert row["verdict"] == (
        "not run (python -m experiments.train -m experiment=table2_cifar10 "
        "model=resnet18_released optimizer=adam)"
    )
    assert (row["published_mean"], row["published_std"], row["published_n"]) == (94.85, 0.1, 5)
    assert row["n"] == 0


def test_reproduced(seeds: Any, judged: Any) -> None:
    values = [94.9, 95.0, 94.8, 94.95, 94.85]
    seeds(values)
    row = judged()

    assert (row["verdict"], row["more_seeds"], row["command"]) == ("reproduced", 0, "")
    assert row["mean"] == pytest.approx(94.9)
    low, high = scipy.stats.t.interval(0.95, 4, 94.9, scipy.stats.sem(values))
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert (row["n"], row["note"], row["level"]) == (5, "n=5", 0.95)
    assert row["difference"] == pytest.approx(0.05)
    assert row["difference_low"] < 0.05 < row["difference_high"]
    assert len(row["run_ids"].split()) == 5


@pytest.mark.parametrize(("shift", "which"), [(2.0, "higher"), (-2.0, "lower")])
def test_differs_in_both_directions(seeds: Any, judged: Any, shift: float, which: str) -> None:
    seeds([94.85 + shift + wobble for wobble in (-0.1, 0.0, 0.1, 0.05, -0.05)])
    assert judged()["verdict"] == f"differs ({which})"


def test_one_seed_is_never_reproduced_however_close(seeds: Any, judged: Any) -> None:
    seeds([94.85])
    row = judged()
    assert row["verdict"] == "inconclusive (2 more seeds)"
    assert row["command"].endswith("optimizer=adam seed=1,2")
    assert math.isnan(row["difference_low"])


def test_seeds_that_do_not_vary_are_no_evidence(seeds: Any, judged: Any) -> None:
    seeds([94.85] * 5)
    assert judged()["outcome"] == "inconclusive"


def test_the_rule_says_that_it_holds_for_seeds_that_were_fixed_beforehand() -> None:
    assert "who adds seeds until a row is decided errs more often" in RULE


def test_a_wide_spread_asks_for_more_seeds(seeds: Any, judged: Any) -> None:
    seeds([94.2, 94.9, 95.5])
    row = judged()
    assert row["outcome"] == "inconclusive"
    assert row["more_seeds"] > 0
    assert row["verdict"] == f"inconclusive ({row['more_seeds']:.0f} more seeds)"
    named = re.search(r"seed=([\d,]+)", row["command"])
    assert named is not None
    assert [int(seed) for seed in named[1].split(",")] == list(
        range(3, 3 + min(20, int(row["more_seeds"])))
    )


PROTOCOL = {
    "ruleset": ({"ruleset": "tuned"}, "protocol: ruleset tuned, not paper"),
    "validation": ({"validation": True}, "protocol: a validation split cut from train"),
    "validation fraction": (
        {"validation": True, "task.validation_fraction": 0.1},
        "protocol: a validation split cut from train",
    ),
    "validation unknown": ({"validation": None}, "protocol: validation not known"),
    "budget": ({"budget": "5 epochs", "budget.epochs": 5}, "protocol: 5 epochs, not 210 epochs"),
    "another budget": (
        {"budget": "210 steps", "budget.epochs": None, "budget.steps": 210},
        "protocol: 210 steps, not 210 epochs",
    ),
    "schedule": (
        {"schedule.name": "constant", "schedule._target_": "constant", "schedule.per": None},
        "protocol: schedule constant, not cosine",
    ),
    "stepped": ({"schedule.per": "step"}, "protocol: per step, not epoch"),
    "batch": ({"task.batch_size": 64}, "protocol: batch_size 64, not 256"),
    "augmentation": ({"task.cutout_size": 0}, "protocol: cutout_size 0, not 16"),
    "evaluations": (
        {"task.evaluations_per_epoch": 9},
        "protocol: evaluations_per_epoch 9, not 1",
    ),
    "two": (
        {"task.flip": False, "optimizer.lr": 0.01},
        "protocol: flip false, not true, lr 0.01, not 0.001",
    ),
    "a list": ({"optimizer.betas": [0.9, 0.99]}, "protocol: betas [0.9, 0.99], not [0.9, 0.999]"),
    "a key of its own": ({"model.width": 9}, "protocol: width 9, not null"),
    "a key with two owners": (
        {"task._target_": "mine"},
        "protocol: task._target_ mine, not experiments.tasks.cifar10.build",
    ),
    "precision": ({"precision": "bf16"}, "protocol: precision bf16, not fp32 or tf32"),
    "weights": ({"pretrained.source": "imagenet"}, "protocol: source imagenet, not null"),
    "control": ({"control": "scalar"}, "protocol: control scalar"),
    "a class": (
        {"origin": {**PLAIN, "command": ["optimizer._target_=torch.optim.SGD"]}},
        "protocol: optimizer._target_=torch.optim.SGD",
    ),
    "model": ({"model": "resnet18_imagenet"}, "model: resnet18_imagenet"),
    "not recorded": ({"protocol": {}}, "protocol: not recorded"),
}


@pytest.mark.parametrize(("changed", "why"), PROTOCOL.values(), ids=list(PROTOCOL.keys()))
def test_another_protocol_is_not_comparable(
    seeds: Any, judged: Any, changed: dict[str, Any], why: str
) -> None:
    seeds([94.9, 95.0, 94.8, 94.95, 94.85], **changed)
    row = judged()
    assert row["verdict"] == f"not comparable ({why})"
    assert (row["n"], math.isnan(row["mean"])) == (0, True)
    assert "experiment=table2_cifar10" in row["command"]


def test_a_run_that_follows_the_protocol_counts_beside_those_that_do_not(
    seeds: Any, judged: Any
) -> None:
    seeds([50.0, 51.0, 52.0], ruleset="default", **{"optimizer.lr": 0.5})
    seeds([94.9, 95.0, 94.8, 94.95, 94.85])
    row = judged()
    assert (row["verdict"], row["n"]) == ("reproduced", 5)


def test_jpeg_images_never_count_for_cifar10(seeds: Any, judged: Any) -> None:
    none = {"task": None, "model": "resnet18", "optimizer": "adam"}
    seeds([94.9, 95.0, 94.8, 94.95, 94.85], task="cifar10_jpeg", published_as=none)
    row = judged()
    assert row["verdict"] == "not comparable (data: cifar10_jpeg)"
    assert row["n"] == 0


def test_not_even_where_their_record_says_so(seeds: Any, judged: Any) -> None:
    # As by task=cifar10_jpeg task.published_as=cifar10 on the command line.
    seeds([94.9, 95.0, 94.8, 94.95, 94.85], task="cifar10_jpeg")
    assert judged()["verdict"] == "not comparable (data: cifar10_jpeg)"


def test_nor_where_the_configuration_has_come_to_say_so(seeds: Any, runs_dir: Path) -> None:
    said = {kind: dict(names) for kind, names in shipped().published_as.items()}
    said["task"]["cifar10_jpeg"] = "cifar10"
    none = {"task": None, "model": "resnet18", "optimizer": "adam"}
    seeds([94.9, 95.0, 94.8, 94.95, 94.85], task="cifar10_jpeg", published_as=none)
    by = dataclasses.replace(shipped(), published_as=said)
    made = row_of(verdicts(load_results(runs_dir), by=by))
    assert made["verdict"] == "not comparable (data: cifar10_jpeg)"


def test_another_model_of_the_name_is_not_comparable(seeds: Any, judged: Any) -> None:
    seeds(
        [93.0, 93.1, 93.2],
        model="mobilenetv3",
        published_as={"task": "cifar10", "model": None, "optimizer": "adam"},
    )
    row = judged(("cifar10", "mobilenetv3", "scratch", "adam"))
    assert row["verdict"] == "not comparable (model: mobilenetv3)"


def test_nor_is_a_network_that_starts_from_other_weights(seeds: Any, judged: Any) -> None:
    none = {"task": "cifar10", "model": None, "optimizer": "adam"}
    seeds([94.9, 95.0, 94.8, 94.95, 94.85], model="resnet18", published_as=none)
    assert judged()["verdict"] == "not comparable (model: resnet18)"


def test_nor_is_another_model_of_the_same_published_name(seeds: Any, judged: Any) -> None:
    # Both are ResNet-50 in the tables, with ImageNet's stem in Tables 3 and 6 alone.
    as_published = {"task": "cifar10", "model": "resnet50", "optimizer": "adam"}
    seeds([90.0, 90.1, 90.2], model="resnet50_imagenet", published_as=as_published)
    row = judged(("cifar10", "resnet50", "scratch", "adam"))
    assert row["verdict"] == "not comparable (model: resnet50_imagenet)"


def test_other_weights_are_another_row(seeds: Any, judged: Any) -> None:
    seeds([94.9, 95.0, 94.8, 94.95, 94.85], setting="imagenet_pretrained")
    assert judged()["outcome"] == "not run"


def test_what_differs_in_nothing_recorded_is_not_chosen_from(seeds: Any, judged: Any) -> None:
    seeds([94.9, 95.0, 94.8, 94.95, 94.85])
    seeds([80.0, 80.1, 80.2], group_id="of-another-code")
    row = judged()
    assert row["verdict"] == "not comparable (protocol: 2 configurations claim this row)"
    assert len(row["run_ids"].split()) == 8


MATTERLESS = {  # by what is beside the plain runs: nothing of it moves a published number
    "compile": {"compile": True},
    "device": {"device": "cpu"},
    "layout": {"channels_last": False},
    "tf32": {"precision": "tf32"},
    "evaluation batch": {"task.eval_batch_size": 7},
    "download": {"task.download": True},
    "horizon": {"schedule.horizon_epochs": 210},
    "what others get": {"budget.by_optimizer": {"adam": 210, "sgd": 3}},
    "no table": {"budget.by_optimizer": {}},
}


@pytest.mark.parametrize("changed", MATTERLESS.values(), ids=list(MATTERLESS.keys()))
def test_what_does_not_matter_keeps_no_run_from_counting(
    seeds: Any, judged: Any, changed: dict[str, Any]
) -> None:
    seeds([94.9, 95.0, 94.8, 94.95, 94.85], **_at_top(changed))
    assert judged()["verdict"] == "reproduced"


def test_of_two_that_count_the_one_most_like_the_experiment_does(seeds: Any, judged: Any) -> None:
    seeds([80.0, 80.1, 80.2, 80.0], **_at_top({"compile": True}))
    seeds([80.0, 80.1, 80.2, 80.0, 80.1], **_at_top({"compile": True, "device": "cpu"}))
    assert judged()["n"] == 4
    seeds([94.9, 95.0, 94.8])
    row = judged()
    assert (row["n"], row["mean"]) == (3, pytest.approx(94.9))
    assert row["note"] == (
        "n=3/5; 4 more with compile true, not false; "
        "5 more with compile true, not false, device cpu, not auto"
    )


def _at_top(changes: dict[str, Any]) -> dict[str, Any]:
    """A protocol has some values beside its sections."""
    plain = image_run()
    own = {key: value for key, value in changes.items() if key in plain["protocol"]}
    if not own:
        return changes
    rest = {key: value for key, value in changes.items() if key not in own}
    return {**rest, "protocol": {**plain["protocol"], **own}}


def test_the_seeds_and_the_camera_ready_rule_stand_beside_without_a_verdict(
    write_run: Any, judged: Any, runs_dir: Path
) -> None:
    recipe = recipe_of(2, "cifar10", "resnet18", "adafisher")
    for rule in ("adafisher", "adafisher_v3"):
        for seed, value in enumerate((96.2, 96.3, 96.4)):
            write_run(seed=seed, values=(value, value - 1), **identity_of(recipe, rule))
    write_run(**identity_of(recipe, "adafisher") | {"optimizer": "muon"})
    key = ("cifar10", "resnet18", "scratch", "adafisher")
    assert judged(key)["outcome"] == "not run"

    made = beside(load_results(runs_dir))
    assert made["rule"].tolist() == ["adafisher", "adafisher_v3"]
    assert [tuple(row) for row in made[NAMES].to_numpy()] == [key, key]
    assert made["mean"].tolist() == pytest.approx([96.3, 96.3])
    assert made["protocol"].tolist() == ["", ""]
    assert "verdict" not in made


def test_what_of_a_rule_beside_is_not_the_published_protocol_is_said(
    write_run: Any, runs_dir: Path
) -> None:
    recipe = recipe_of(2, "cifar10", "resnet18", "adafisher")
    changed = {"budget.epochs": 5, "budget": "5 epochs", "optimizer.lr": 0.5, "task.flip": False}
    write_run(**identity_of(recipe, "adafisher", **changed))
    unknown = identity_of(recipe, "adafisher") | {"optimizer": "adafisher_mine"}
    write_run(**unknown)
    made = beside(load_results(runs_dir)).set_index("rule")["protocol"]
    assert made["adafisher"] == "5 epochs, not 200 epochs, flip false, not true, lr 0.5, not 0.001"
    assert made["adafisher_mine"] == ("no published budget and hyperparameters of adafisher_mine")


def test_the_released_rule_gets_the_verdict(seeds: Any, judged: Any) -> None:
    seeds([96.2, 96.3, 96.25, 96.1, 96.3], optimizer="adafisher")
    row = judged(("cifar10", "resnet18", "scratch", "adafisher"))
    assert row["verdict"] == "reproduced (recipe: as in the paper)"


def test_diverged_seeds_keep_a_row_from_being_reproduced(
    seeds: Any, write_run: Any, judged: Any
) -> None:
    seeds([94.9, 95.0, 94.8, 94.95, 94.85])
    write_run(seed=5, status="diverged", **image_run())
    row = judged()
    assert (row["outcome"], row["note"]) == ("inconclusive", "n=5/6, diverged 1/6")
    assert (row["verdict"], row["command"]) == ("inconclusive (1 of 6 without a result)", "")


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ((85.0, math.nan, 94.9), "n=5/6, diverged 1/6"),
        ((85.0, 94.9, math.inf), "n=5/6, diverged 1/6"),
        ((), "n=5/6, not finite 1/6"),  # no evaluation at all
    ],
)
def test_a_run_that_is_done_without_a_finite_result_keeps_a_row_from_being_reproduced(
    seeds: Any, write_run: Any, judged: Any, values: tuple[float, ...], note: str
) -> None:
    seeds([94.9, 95.0, 94.8, 94.95, 94.85])
    assert judged()["outcome"] == "reproduced"
    write_run(seed=5, values=values, **image_run())
    row = judged()
    assert (row["outcome"], row["note"], row["command"]) == ("inconclusive", note, "")


@pytest.mark.parametrize(("seeds_run", "verdict"), [(3, "differs (lower)"), (2, "inconclusive")])
def test_where_all_diverged(write_run: Any, judged: Any, seeds_run: int, verdict: str) -> None:
    for seed in range(seeds_run):
        write_run(seed=seed, status="diverged", **image_run())
    assert judged()["verdict"].startswith(verdict)


def text_run(values: list[float], **identity: Any) -> dict[str, Any]:
    rows = [
        {
            "step": 10 * epoch,
            "epoch": float(epoch),
            "train_seconds": float(epoch),
            "test_perplexity": 99.0,  # exact, which the published ones are not
            "validation_perplexity": float(epoch),
            "test_perplexity_paper": value,
        }
        for epoch, value in enumerate(values, start=1)
    ]
    facts = {"validation": True, "metric": "perplexity", "higher_is_better": False}
    recipe = recipe_of(5, "ptb", "gpt1_mini", "adamw")
    return {"rows": rows, **identity_of(recipe, **facts, **identity)}


PTB = ("ptb", "gpt1_mini", "scratch", "adamw")  # published: 44.7, one run for all that is known


def test_perplexities_are_relative_and_of_the_last_epoch(write_run: Any, judged: Any) -> None:
    for seed, factor in enumerate([0.999, 1.0, 1.001, 1.002, 0.998]):
        write_run(seed=seed, **text_run([30.0, 44.7 * factor]))
    row = judged(PTB)
    assert (row["verdict"], row["unit"]) == ("reproduced", "%")
    assert row["difference"] == pytest.approx(0.0, abs=1e-3)
    assert row["mean"] == pytest.approx(44.7)


def test_a_perplexity_twice_as_high_is_a_hundred_percent(write_run: Any, judged: Any) -> None:
    for seed, factor in enumerate([1.999, 2.0, 2.001, 2.002, 1.998]):
        write_run(seed=seed, **text_run([44.7 * factor]))
    row = judged(PTB)
    assert row["verdict"] == "differs (higher)"
    assert row["difference"] == pytest.approx(100.0, abs=0.01)


def test_another_vocabulary_is_not_comparable(write_run: Any, judged: Any) -> None:
    none = {"task": None, "model": "gpt1_mini", "optimizer": "adamw"}
    write_run(**text_run([44.7], tokenization="word", published_as=none))
    assert judged(PTB)["verdict"] == "not comparable (tokenisation: word)"


def gpus(count: int) -> dict[str, Any]:
    recipe = recipe_of(6, "imagenet1k", "resnet50", "adafisher")
    return {
        "rows": [{"step": 9, "epoch": 2.0, "test_accuracy_percent": 9.0}],
        **identity_of(recipe, setting=f"{count}_gpu", group_id=f"{count}_gpu"),
    }


def test_seconds_of_another_machine_are_compared_as_a_scaling(
    write_run: Any, runs_dir: Path
) -> None:
    for count, seconds in ((1, 2000.0), (4, 625.0)):
        folder = write_run(**gpus(count))
        status = folder / "status.json"
        text = status.read_text()
        status.write_text(
            text.replace('"progress": {}', f'"progress": {{"train_seconds": {2 * seconds}}}')
        )
    made = verdicts(load_results(runs_dir))
    four = row_of(made, ("imagenet1k", "resnet50", "4_gpu", "adafisher"))
    assert four["mean"] == 625.0
    assert four["verdict"] == (  # 2882 / 720, and 2000 / 625
        "not comparable (hardware: 4.00 times the speed of one process there, 3.20 here)"
    )
    one = row_of(made, ("imagenet1k", "resnet50", "1_gpu", "adafisher"))
    assert one["verdict"] == "not comparable (hardware: seconds of another machine)"
    three = row_of(made, ("imagenet1k", "resnet50", "3_gpu", "adafisher"))
    assert three["verdict"].startswith("not run (torchrun --standalone --nproc-per-node=3")


def test_rows_that_cannot_be_run_say_why(runs_dir: Path) -> None:
    made = verdicts(load_results(runs_dir))
    literature = made[made["setting"] == "literature"]
    assert set(literature["verdict"]) == {"not comparable (protocol: a number of the literature)"}
    assert set(literature["command"]) == {""}


def test_the_rule_names_its_numbers() -> None:
    for part in ("95%", "0.5 percentage points", "3 %", "fewer than 3 seeds", "published_as"):
        assert part in RULE
    assert "\n" not in RULE
