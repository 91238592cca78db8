import hashlib
import lzma
from dataclasses import replace

import pytest

from experiments.errors import UserError
from experiments.tasks import ptb, wikitext2
from experiments.tasks.words import plain
from experiments.tokenizations import word

TEXTS = (" the cat sat \n \n the mat \n", " the mat \n", " cat \n the \n")
TASKS = {"wikitext2": wikitext2, "ptb": ptb}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TEXTS[0], "the cat sat\n\nthe mat\n"),
        ("a b\nc", "a b\nc\n"),  # a missing last newline is none
        ("\n\n", "\n\n"),
        # str.splitlines would also break at these.
        ("a\x0bb\u2028c\x85d\n", "a b c d\n"),
    ],
)
def test_the_white_space_of_a_line_is_one_space(text, expected):
    assert plain(text) == expected


def write_mini(monkeypatch, module, data_dir, *, choice: int) -> None:
    """Write the three files under the names of `choice`, and expect their checksums."""
    folder = data_dir / module.FOLDER
    folder.mkdir(parents=True)
    files = []
    for file, text in zip(module.FILES, TEXTS, strict=True):
        name = file.names[choice]
        content = text.encode()
        (folder / name).write_bytes(lzma.compress(content) if name.endswith(".xz") else content)
        files.append(replace(file, sha256=hashlib.sha256(content).hexdigest()))
    mini = replace(module.TASK, files=tuple(files))
    for name, value in {"FILES": mini.files, "build": mini.build, "check": mini.check}.items():
        monkeypatch.setattr(module, name, value)


@pytest.mark.parametrize(
    ("name", "choice"),
    [("wikitext2", 0), ("wikitext2", 1), ("wikitext2", 2), ("ptb", 0), ("ptb", 1)],
)
def test_the_official_layouts_are_read(monkeypatch, tmp_path, name, choice):
    module = TASKS[name]
    write_mini(monkeypatch, module, tmp_path, choice=choice)
    module.check(tmp_path, context=3)
    task = module.build(
        data_dir=tmp_path, cache_dir=tmp_path / "cache", context=3, tokenization=word.encode
    )
    assert task.name == name
    assert task.train.inputs.tolist() == [[0, 1, 2], [3, 3, 0], [4, 0, 0]]
    assert len(task.validation) == 1
    assert len(task.test) == 1
    assert task.model_arguments == {"vocab_size": 5, "context": 3}
    assert list(task.checksums.values()) == [file.sha256 for file in module.FILES]


@pytest.mark.parametrize("name", sorted(TASKS))
@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "changed"])
def test_a_damaged_file_is_named_by_check_and_build(monkeypatch, tmp_path, name, part, damage):
    module = TASKS[name]
    write_mini(monkeypatch, module, tmp_path, choice=1)
    path = tmp_path / module.FOLDER / module.FILES[part].names[1]
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        damaged = {"empty": b"", "truncated": content[:-4], "changed": content.replace(b"t", b"u")}
        path.write_bytes(damaged[damage])
    first_name = module.FILES[part].names[0 if damage == "missing" else 1]
    for call in (
        lambda: module.check(tmp_path, context=3),
        lambda: module.build(
            data_dir=tmp_path, cache_dir=tmp_path, context=3, tokenization=word.encode
        ),
    ):
        with pytest.raises(UserError) as error:
            call()
        assert str(tmp_path / module.FOLDER / first_name) in str(error.value)
        assert "data_dir=" in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_missing_folder_is_named(tmp_path, name):
    with pytest.raises(UserError, match=rf"{TASKS[name].FOLDER} does not exist"):
        TASKS[name].check(tmp_path / "nowhere")
