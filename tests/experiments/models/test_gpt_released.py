import copy
import hashlib

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from experiments.config.compose import composed
from experiments.engine.build import build_optimizer
from experiments.errors import UserError
from experiments.models.gpt_released import FrozenEmbeddingGPT, check

TINY = {
    "layers": 2, "heads": 2, "width": 12, "mlp_width": 20,
    "norm": "post", "dropout": 0.0, "tied_head": True,
}  # fmt: skip
SAVE = {"model.safetensors": save_file, "pytorch_model.bin": torch.save}


@pytest.fixture
def tables():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(10, 12, generator=generator), torch.randn(16, 12, generator=generator)


def write(folder, tables, name="pytorch_model.bin", prefix=""):
    keys = [f"{prefix}tokens_embed.weight", f"{prefix}positions_embed.weight"]
    SAVE[name](dict(zip(keys, tables, strict=True)), folder / name)


def make(folder, **changes):
    arguments = {"vocab_size": 10, "context": 8, "weights_dir": str(folder), **TINY}
    return FrozenEmbeddingGPT(**(arguments | changes))


@pytest.mark.parametrize("name", SAVE)
@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_both_formats_are_read(tmp_path, tables, name, prefix):
    write(tmp_path, tables, name, prefix)
    check(weights_dir=str(tmp_path))
    model = make(tmp_path)
    assert torch.equal(model.token_embedding.weight, tables[0])
    assert torch.equal(model.position_embedding.weight, tables[1][:8])
    assert model.head.weight is model.token_embedding.weight
    assert model.checksums == {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}


def test_what_is_not_loaded_starts_as_torch_draws_it(tmp_path, tables):
    write(tmp_path, tables)
    torch.manual_seed(0)
    model = make(tmp_path, mlp_width=3072, init="torch")
    second = model.blocks[0].mlp[2].weight
    assert second.std().item() == pytest.approx(0.0104, rel=0.02)  # 1 / sqrt(3 * 3072)
    assert torch.equal(model.token_embedding.weight, tables[0])
    assert torch.equal(model.position_embedding.weight, tables[1][:8])
    assert (
        composed(["model=gpt1_mini_released", "task=wikitext2"]).model.arguments["init"] == "torch"
    )


def test_padding_comes_before_the_vocabulary(tmp_path, tables):
    write(tmp_path, tables)
    weight = make(tmp_path, vocab_size=11).token_embedding.weight
    assert torch.equal(weight[0], torch.zeros(12))
    assert torch.equal(weight[1:], tables[0])


def test_the_published_sizes(tmp_path):
    """59,635,968 parameters, 28,351,488 of them trained: 40,479 tokens, 256 of 512 positions."""
    one = torch.zeros(1, 1)  # the file holds one number a table
    write(tmp_path, (one.expand(40_478, 768), one.expand(512, 768)))
    section = composed(["model=gpt1_mini_released", "task=wikitext2"]).model
    sizes = {k: v for k, v in section.hyperparameters.items() if k != "weights_dir"}
    with torch.device("meta"):
        model = make(tmp_path, vocab_size=40_479, context=256, **sizes)
    assert sum(p.numel() for p in model.parameters()) == 59_635_968
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 28_351_488


@pytest.mark.parametrize("name", ["adafisherw_released", "adafisherw", "adamw", "sgd", "shampoo"])
@pytest.mark.filterwarnings("ignore:AdaFisher.*in no supported layer")
def test_training_leaves_the_embeddings_alone(tmp_path, tables, name):
    write(tmp_path, tables)
    model = make(tmp_path)
    before = copy.deepcopy(model.state_dict())
    section = composed([f"optimizer={name}"]).optimizer
    optimizer = build_optimizer(section.having(weight_decay=0.1), model)
    tokens = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8]])
    for _ in range(3):
        F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    frozen = {"token_embedding.weight", "position_embedding.weight", "head.weight"}
    same = {key for key, value in model.state_dict().items() if torch.equal(value, before[key])}
    assert same == frozen


def test_a_missing_file_is_one_line(tmp_path):
    for call in (lambda: check(weights_dir=str(tmp_path)), lambda: make(tmp_path)):
        with pytest.raises(UserError, match=r"model\.safetensors or pytorch_model\.bin") as error:
            call()
        assert str(tmp_path) in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", SAVE)
@pytest.mark.parametrize("damage", ["empty", "truncated", "other keys"])
def test_a_damaged_file_is_one_line(tmp_path, tables, name, damage):
    write(tmp_path, tables, name, prefix="other." if damage == "other keys" else "")
    path = tmp_path / name
    if damage != "other keys":
        content = path.read_bytes()
        path.write_bytes(b"" if damage == "empty" else content[: len(content) // 2])
    with pytest.raises(UserError, match=r"cannot be read|lacks 'tokens_embed\.weight'") as error:
        make(tmp_path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 12}, "10 tokens and width 12; the model has 12 and 12"),
        ({"vocab_size": 9}, "10 tokens and width 12; the model has 9 and 12"),
        ({"width": 14}, "the model has 10 and 14"),
        ({"context": 17}, r"Invalid context: 17\. Must be <= 16"),
    ],
)
def test_other_sizes_are_refused(tmp_path, tables, changes, message):
    write(tmp_path, tables)
    with pytest.raises(UserError, match=message):
        make(tmp_path, **changes)
