"""Every model, and every pair of model and method that the paper's tables print, trains."""

import csv
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torchvision
import yaml

from adafisher import stats
from experiments.config import commandline
from experiments.config.compose import composed
from experiments.engine.build import build
from experiments.engine.loop import Trainer

PUBLISHED = Path(__file__).parents[3] / "analysis" / "published" / "published.csv"
pytestmark = pytest.mark.filterwarnings("ignore:AdaFisher.*in no supported layer")
SIZES = ["task.batch_size=2", "task.train_images=4", "task.test_images=2"]
IMAGES = ["task=generated_images", "task.validation_fraction=0", *SIZES]
TEXT = ["task=generated_text", "task.context=16", "task.batch_size=2", "task.train_lines=4"]
COMMON = ["budget=steps", "budget.steps=2", "tracking=none", "threads=2"]


@pytest.fixture(autouse=True)
def few_sorted(monkeypatch):
    """Percentiles of F of fewer entries: to sort millions takes longer than all the rest."""
    monkeypatch.setattr(stats, "_SAMPLE", 1 << 10)


def sections(group: str) -> dict[str, dict]:
    folder = commandline.CONF / group
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml"))}


MODELS = sections("model")
OTHERS = {
    "autoencoder": ["task=digits_autoencoder"],
    "mlp": ["task=diabetes"],
    "own": ["task=noisy_quadratic"],
}
IS_TEXT = {name for name in MODELS if name.startswith("gpt")}


def named(group: str, published: str) -> str:
    """The choice that joins a published name; of several the one that is called so."""
    found = [name for name, section in sections(group).items() if joins(section, published)]
    return published if published in found else found[0]


def joins(section: dict, published: str) -> bool:
    return section["suite"]["published_as"] == published


def train(overrides: list[str]) -> float:
    """Two steps; returns the last training loss, every trained parameter having moved."""
    built = build(composed(commandline.normalise([*COMMON, *overrides])))
    trained = {n: p for n, p in built.model.named_parameters() if p.requires_grad}
    before = {name: param.detach().clone() for name, param in trained.items()}
    rows = list(Trainer(built, seed=0).run())
    assert rows[-1]["step"] == 2
    stayed = [name for name, param in trained.items() if torch.equal(param, before[name])]
    assert stayed == []
    return rows[-1]["train_loss"]


@pytest.mark.parametrize("model", [name for name in MODELS if name != "gpt1_mini_released"])
def test_every_model_trains(model):
    imagenet = ["task.image_size=64"] if model.endswith("_imagenet") else []
    task = TEXT if model in IS_TEXT else OTHERS.get(model, [*IMAGES, *imagenet])
    assert math.isfinite(train([*task, f"model={model}", "optimizer=adafisherw"]))


def pairs() -> Iterator[tuple[str, str, str, str]]:
    """Table, data set, model and method of each row of Tables 2, 4 and 5, by published names."""
    with PUBLISHED.open() as handle:
        for row in csv.DictReader(handle):
            if row["table"] in ("2", "4", "5"):
                yield row["table"], row["dataset"], row["model"], row["optimizer"]


PAIRS = list(pairs())
ENDS: dict[tuple[str, str, str, str], str] = {}


@pytest.fixture(scope="module")
def matrix(request: pytest.FixtureRequest) -> Iterator[dict]:
    yield ENDS
    plugins = request.config.pluginmanager
    with plugins.getplugin("capturemanager").global_and_fixture_disabled():
        _print(plugins.getplugin("terminalreporter"))


def _print(report: pytest.TerminalReporter) -> None:
    for table in sorted({pair[0] for pair in ENDS}):
        methods = list(dict.fromkeys(p[3] for p in PAIRS if p[0] == table))
        report.write_line(f"\nTable {table}: training loss after two steps, all parameters moved")
        report.write_line(f"{'':28}" + "".join(f"{method:>12}" for method in methods))
        for data, model in dict.fromkeys(p[1:3] for p in PAIRS if p[0] == table):
            cells = [ENDS.get((table, data, model, method), "-") for method in methods]
            report.write_line(f"{data + ' ' + model:28}" + "".join(f"{cell:>12}" for cell in cells))


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_every_published_pair_trains(pair, matrix, tmp_path):
    table, data, model, optimizer = pair
    overrides = ["ruleset=paper", f"optimizer={named('optimizer', optimizer)}"]
    if table == "5":  # OpenAI's embeddings are not at hand: the same network with its own
        overrides += [
            *TEXT,
            "model=gpt1_mini",
            f"task.words={ {'wikitext2': 33277}.get(data, 9999) }",
        ]
    else:
        classes = {"cifar10": 10, "cifar100": 100}[data]
        overrides += [*IMAGES, f"task.num_classes={classes}"]
    if table == "2":
        overrides.append(f"model={named('model', model)}")
    if table == "4":
        library = {"mobilenetv3": "mobilenet_v3_large"}.get(model, model)
        file = tmp_path / f"{model}.pt"
        torch.save(getattr(torchvision.models, library)().state_dict(), file)
        overrides += [f"model={model}", f"pretrained.source={file}"]
    loss = train(overrides)
    matrix[pair] = f"{loss:.2f}"
    assert math.isfinite(loss)
