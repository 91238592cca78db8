"""Verdicts over records written for the purpose: what counts for a published row, and what not."""

import math
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import scipy.stats

from analysis.load import load_results
from analysis.published import read_published
from analysis.recipes import CONF
from analysis.verdict import COLUMNS, OUTCOMES, RULE, beside, counts, verdicts

ADAM = ("cifar10", "resnet18", "scratch", "adam")  # published: 94.85, std 0.1
SGD = ("cifar10", "resnet18", "scratch", "sgd")  # published: 95.64, no std
NAMES = ["dataset", "model", "setting", "optimizer"]


def image_run(optimizer: str = "adam", epochs: int = 210, **identity: Any) -> dict[str, Any]:
    """Identity of a run that follows the protocol of Table 2's Adam row."""
    return {
        "optimizer": optimizer,
        "task": "cifar10",
        "model": "resnet18_released",
        "ruleset": "paper",
        "budget": f"{epochs} epochs",
        "schedule": "cosine",
        "batch_size": 256,
        "precision": "fp32",
        "hyperparameters": {"lr": 0.001, "betas": [0.9, 0.999], "weight_decay": 0.0005},
        "published_as": {"task": "cifar10", "model": "resnet18", "optimizer": optimizer},
        **identity,
    }


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
    "ruleset": ({"ruleset": "tuned"}, "ruleset tuned, not paper"),
    "validation": ({"validation": True}, "a validation split cut from train"),
    "validation unknown": ({"validation": None}, "validation not known"),
    "budget": ({"budget": "5 epochs"}, "5 epochs, not 210 epochs"),
    "epochs of another method": ({"epochs": 200}, "200 epochs, not 210 epochs"),
    "steps": ({"budget": "210 steps"}, "210 steps, not 210 epochs"),
    "schedule": ({"schedule": "constant"}, "schedule constant, not cosine"),
    "batch": ({"batch_size": 64}, "batch size 64, not 256"),
    "lr": ({"hyperparameters": {"lr": 0.01}}, "lr 0.01, not 0.001"),
    "precision": ({"precision": "bf16"}, "precision bf16, not fp32 or tf32"),
    "control": ({"control": "scalar"}, "control scalar"),
    "model": ({"model": "resnet18_imagenet"}, "(model: resnet18_imagenet)"),
}


@pytest.mark.parametrize(("changed", "why"), PROTOCOL.values(), ids=list(PROTOCOL.keys()))
def test_another_protocol_is_not_comparable(
    seeds: Any, judged: Any, changed: dict[str, Any], why: str
) -> None:
    seeds([94.9, 95.0, 94.8, 94.95, 94.85], **changed)
    row = judged()
    assert row["outcome"] == "not comparable"
    assert why in row["verdict"]
    assert (row["n"], math.isnan(row["mean"])) == (0, True)
    assert "experiment=table2_cifar10" in row["command"]


def test_a_run_that_follows_the_protocol_counts_beside_those_that_do_not(
    seeds: Any, judged: Any
) -> None:
    seeds([50.0, 51.0, 52.0], ruleset="default", hyperparameters={"lr": 0.5})
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


def test_nor_where_the_configuration_has_come_to_say_so(
    seeds: Any, runs_dir: Path, tmp_path: Path
) -> None:
    conf = tmp_path / "conf"
    shutil.copytree(CONF, conf)
    file = conf / "task" / "cifar10_jpeg.yaml"
    file.write_text(file.read_text().replace("published_as: null", "published_as: cifar10"))
    none = {"task": None, "model": "resnet18", "optimizer": "adam"}
    seeds([94.9, 95.0, 94.8, 94.95, 94.85], task="cifar10_jpeg", published_as=none)
    made = row_of(verdicts(load_results(runs_dir), conf=conf))
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


def test_two_configurations_of_one_row_are_not_chosen_from(seeds: Any, judged: Any) -> None:
    seeds([94.9, 95.0, 94.8, 94.95, 94.85])
    seeds([80.0, 80.1, 80.2], group_id="cutout-off")
    row = judged()
    assert row["verdict"] == "not comparable (protocol: 2 configurations claim this row)"
    assert len(row["run_ids"].split()) == 8


def test_the_seeds_and_the_camera_ready_rule_stand_beside_without_a_verdict(
    seeds: Any, judged: Any, runs_dir: Path
) -> None:
    lr = {"lr": 0.001}
    none = {"task": "cifar10", "model": "resnet18", "optimizer": None}
    for rule in ("adafisher", "adafisher_v3"):
        seeds([96.2, 96.3, 96.4], optimizer=rule, epochs=200, hyperparameters=lr, published_as=none)
    seeds([90.0], optimizer="muon", published_as=none)
    key = ("cifar10", "resnet18", "scratch", "adafisher")
    assert judged(key)["outcome"] == "not run"

    made = beside(load_results(runs_dir))
    assert made["rule"].tolist() == ["adafisher", "adafisher_v3"]
    assert [tuple(row) for row in made[NAMES].to_numpy()] == [key, key]
    assert made["mean"].tolist() == pytest.approx([96.3, 96.3])
    assert made["protocol"].tolist() == ["", ""]
    assert "verdict" not in made


def test_the_released_rule_gets_the_verdict(seeds: Any, judged: Any) -> None:
    as_published = {"task": "cifar10", "model": "resnet18", "optimizer": "adafisher"}
    seeds(
        [96.2, 96.3, 96.25, 96.1, 96.3],
        optimizer="adafisher_released",
        epochs=200,
        hyperparameters={"lr": 0.001, "damping": 0.001, "update_interval": 100},
        published_as=as_published,
    )
    assert judged(("cifar10", "resnet18", "scratch", "adafisher"))["verdict"] == "reproduced"


def test_diverged_seeds_keep_a_row_from_being_reproduced(
    seeds: Any, write_run: Any, judged: Any
) -> None:
    seeds([94.9, 95.0, 94.8, 94.95, 94.85])
    write_run(seed=5, status="diverged", **image_run())
    row = judged()
    assert (row["outcome"], row["note"]) == ("inconclusive", "n=5/6, diverged 1/6")
    assert row["more_seeds"] >= 1


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
    return {
        "rows": rows,
        "optimizer": "adamw",
        "task": "ptb",
        "tokenization": "openai_gpt padding_ids=1",
        "model": "gpt1_mini_released",
        "ruleset": "paper",
        "budget": "55 epochs",
        "schedule": "constant",
        "batch_size": 32,
        "validation": True,  # Penn Treebank has a part for it
        "metric": "perplexity",
        "higher_is_better": False,
        "hyperparameters": {"lr": 1e-5},
        "published_as": {"task": "ptb", "model": "gpt1_mini", "optimizer": "adamw"},
        **identity,
    }


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


def gpus(count: int, seconds: float) -> dict[str, Any]:
    return {
        "rows": [{"step": 9, "epoch": 2.0, "test_accuracy_percent": 9.0}],
        "optimizer": "adafisher_released",
        "task": "imagenet1k",
        "model": "resnet50_imagenet",
        "setting": f"{count}_gpu",
        "ruleset": "paper",
        "budget": "2 epochs",
        "hyperparameters": {"lr": 0.001},
        "published_as": {"task": "imagenet1k", "model": "resnet50", "optimizer": "adafisher"},
        "group_id": f"{count}_gpu",
    }


def test_seconds_of_another_machine_are_compared_as_a_scaling(
    write_run: Any, runs_dir: Path
) -> None:
    for count, seconds in ((1, 2000.0), (4, 625.0)):
        folder = write_run(**gpus(count, seconds))
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
