"""Weights in torchvision's layout, made at random and saved to a file."""

import hashlib
import re
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from experiments.errors import UserError
from experiments.models import cct, densenet, mobilenetv3, resnet, transfer
from tests.experiments.models.test_model_configs import CONFIGS

SIZES = {"in_channels": 3, "num_classes": 10, "image_size": 32}
# name: our model, torchvision's, names that must stay as they were, their elements by hand
CASES = {
    "resnet18": (
        lambda: resnet.build(depth=18, stem="cifar", **SIZES),
        models.resnet18,
        ("conv1.weight", "fc.weight", "fc.bias"),
        64 * 3 * 9 + 512 * 10 + 10,
    ),
    "resnet50": (
        lambda: resnet.build(depth=50, stem="cifar", **SIZES),
        models.resnet50,
        ("conv1.weight", "fc.weight", "fc.bias"),
        64 * 3 * 9 + 2048 * 10 + 10,
    ),
    "densenet121": (
        lambda: densenet.build(dropout=0.0, **SIZES),
        models.densenet121,
        ("features.conv0.weight", "classifier.weight", "classifier.bias"),
        64 * 3 * 9 + 1024 * 10 + 10,
    ),
    "mobilenetv3": (
        lambda: mobilenetv3.build(strides=[1, 1], dropout=0.2, ungrouped=False, **SIZES),
        models.mobilenet_v3_large,
        ("classifier.3.weight", "classifier.3.bias"),  # the stem differs in its stride only
        1280 * 10 + 10,
    ),
}


def official(name: str) -> dict[str, torch.Tensor]:
    """A state_dict of torchvision's model, every value away from its initial one."""
    torch.manual_seed(1)
    state = CASES[name][1]().state_dict()
    return {k: v + 1 if v.dtype == torch.int64 else torch.randn_like(v) for k, v in state.items()}


def load(model: nn.Module, path: Path, **changes: object) -> transfer.Loaded:
    arguments = {"name": "m", "weights": None, "data_dir": path.parent, "minimum_percent": 90.0}
    return transfer.load(model, str(path), **(arguments | changes))


@pytest.mark.parametrize("name", CASES)
def test_all_but_stem_and_classifier_is_loaded(name, tmp_path):
    build, _, left, elements = CASES[name]
    state = official(name)
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    model = build()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    loaded = load(model, path)
    assert loaded.left == left
    total = CONFIGS[name]["suite"]["parameters"]
    assert loaded.percent == pytest.approx(100 * (total - elements) / total, abs=1e-9)
    assert loaded.percent > 99
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key] if key in left else state[key]), key
    assert set(loaded.unused) == set(state) - (set(before) - set(left))
    assert f"{loaded.percent:.2f} %" in str(loaded)
    assert all(key in str(loaded) for key in left)


def test_the_dotted_names_of_torchvisions_densenet_file_are_todays(tmp_path):
    state = official("densenet121")
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)\.", r"\1.\2.", k): v for k, v in state.items()
    }
    assert set(old) != set(state)
    torch.save(old, tmp_path / "old.pth")
    torch.save(state, tmp_path / "new.pth")
    first, second = CASES["densenet121"][0](), CASES["densenet121"][0]()
    assert load(first, tmp_path / "old.pth").left == load(second, tmp_path / "new.pth").left
    assert torch.equal(
        first.get_parameter("features.denseblock4.denselayer16.conv2.weight"),
        state["features.denseblock4.denselayer16.conv2.weight"],
    )


@pytest.mark.parametrize("layout", ["nested", "wrapped", "safetensors"])
def test_other_layouts_of_a_file(layout, tmp_path):
    state = official("resnet18")
    path = tmp_path / ("w.safetensors" if layout == "safetensors" else "w.pt")
    if layout == "safetensors":
        save_file(state, path)
    elif layout == "nested":
        torch.save({"state_dict": state, "epoch": 3}, path)
    else:
        torch.save({f"module.{key}": value for key, value in state.items()}, path)
    model = CASES["resnet18"][0]()
    assert load(model, path).left == CASES["resnet18"][2]
    assert torch.equal(model.layer1[0].conv1.weight, state["layer1.0.conv1.weight"])


def test_a_file_that_fits_too_little_is_refused_and_changes_nothing(tmp_path):
    state = official("resnet18")
    state = {key: value for key, value in state.items() if not key.startswith("layer4")}
    path = tmp_path / "part.pth"
    torch.save(state, path)
    model = CASES["resnet18"][0]()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    gone = sum(p.numel() for p in model.layer4.parameters()) + CASES["resnet18"][3]
    share = 100 * (11_173_962 - gone) / 11_173_962
    message = rf"part\.pth holds {share:.1f} % of the parameters of model=m, .* is 90\. Not in it: "
    with pytest.raises(
        UserError, match=message + r"conv1\.weight, layer4.* and \d+ more\."
    ) as caught:
        load(model, path)
    assert "pretrained.minimum_percent=" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    loaded = load(model, path, minimum_percent=0.0)
    assert loaded.percent == pytest.approx(share)
    assert torch.equal(model.layer1[0].conv1.weight, state["layer1.0.conv1.weight"])


def test_a_file_of_training_that_diverged_is_refused_and_changes_nothing(tmp_path):
    state = official("resnet18")
    state["layer1.0.conv1.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, tmp_path / "file.pt")
    model = CASES["resnet18"][0]()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(
        UserError, match=r"file\.pt has numbers that .*, in layer1\.0\.conv1\.weight"
    ):
        load(model, tmp_path / "file.pt")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_definition_of_other_names_gets_nothing(tmp_path):
    torch.save(official("mobilenetv3"), tmp_path / "w.pth")
    sizes = {"convolutions": 1, "stride": 2, "width": 16, "layers": 1, "heads": 2}
    rates = {"mlp_ratio": 1.0, "dropout": 0.0, "attention_dropout": 0.0, "drop_path": 0.0}
    with pytest.raises(UserError, match=r"holds 0\.0 % of the parameters"):
        load(cct.CCT(**sizes, **rates, **SIZES), tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "cannot be read"), (b"not a pickle", "cannot be read"), ([1, 2], "no tensors by name")],
)
def test_a_file_without_weights_is_one_line(content, message, tmp_path):
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=message) as caught:
        load(nn.Linear(2, 2), path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"Invalid pretrained\.source: .*none\.pth'\. No such file"):
        load(nn.Linear(2, 2), tmp_path / "none.pth")


@pytest.mark.parametrize("value", [-1, 101, float("nan"), True])
def test_an_impossible_share_is_refused(value, tmp_path):
    with pytest.raises(UserError, match=r"Invalid pretrained\.minimum_percent: "):
        load(nn.Linear(2, 2), tmp_path / "w.pth", minimum_percent=value)


def imagenet(model: nn.Module, data_dir: Path) -> transfer.Loaded:
    return transfer.load(
        model,
        "imagenet",
        name="resnet18",
        weights="ResNet18_Weights.IMAGENET1K_V1",
        data_dir=data_dir,
        minimum_percent=90.0,
    )


def test_without_a_network_the_line_says_what_to_put_where(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise URLError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(UserError, match=r"no route") as caught:
        imagenet(CASES["resnet18"][0](), tmp_path)
    for part in (
        "https://download.pytorch.org/models/resnet18-f37072fd.pth",
        str(tmp_path / "weights" / "resnet18-f37072fd.pth"),
        "sha256 starts with f37072fd",
    ):
        assert part in str(caught.value)


def test_the_downloaded_file_is_kept_and_read_again(tmp_path, monkeypatch):
    state, calls = official("resnet18"), []
    torch.save(state, tmp_path / "served.pth")
    content = (tmp_path / "served.pth").read_bytes()
    prefix = hashlib.sha256(content).hexdigest()[:8]
    weights = models.get_weight("ResNet18_Weights.IMAGENET1K_V1")
    url = f"https://example.org/resnet18-{prefix}.pth"
    monkeypatch.setattr(models, "get_weight", lambda name: type(weights.value)(url, None, {}))

    def serve(asked, path, hash_prefix):
        calls.append((asked, hash_prefix))
        Path(path).write_bytes(content)

    monkeypatch.setattr(torch.hub, "download_url_to_file", serve)
    for _ in range(2):
        loaded = imagenet(CASES["resnet18"][0](), tmp_path / "data")
        assert loaded.left == CASES["resnet18"][2]
    assert calls == [(url, prefix)]


def test_a_damaged_file_of_torchvision_is_refused(tmp_path):
    path = tmp_path / "weights" / "resnet18-f37072fd.pth"
    path.parent.mkdir()
    torch.save(official("resnet18"), path)
    with pytest.raises(UserError, match="expected one that starts with f37072fd"):
        imagenet(CASES["resnet18"][0](), tmp_path)


def test_a_definition_that_torchvision_lacks_says_so(tmp_path):
    with pytest.raises(UserError, match="torchvision has no weights of the definition model=cct"):
        transfer.locate("imagenet", model="cct", weights=None, data_dir=tmp_path)
