import errno
import gzip
import hashlib
import lzma
import os
import time

import numpy as np
import pytest

from experiments.errors import UserError
from experiments.tasks.files import DataFile, cached_arrays, locate, read_verified

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HINT = "Set data_dir=FOLDER."
PACK = {"plain.txt": bytes, "packed.gz": gzip.compress, "packed.xz": lzma.compress}


@pytest.mark.parametrize("name", PACK)
def test_a_file_is_unpacked_by_its_ending(tmp_path, name):
    (tmp_path / name).write_bytes(PACK[name](CONTENT))
    assert read_verified(tmp_path, DataFile((name,), SHA256), hint=HINT) == CONTENT


def test_a_file_that_stays_packed_is_checked_as_it_is(tmp_path):
    packed = lzma.compress(CONTENT)
    (tmp_path / "a.xz").write_bytes(packed)
    file = DataFile(("a.xz",), hashlib.sha256(packed).hexdigest(), unpack=False)
    assert read_verified(tmp_path, file, hint=HINT) == packed


def test_the_first_name_that_exists_is_read(tmp_path):
    file = DataFile(("a", "b", "c"), SHA256)
    (tmp_path / "c").touch()
    assert locate(tmp_path, file, hint=HINT) == tmp_path / "c"
    (tmp_path / "b").touch()
    assert locate(tmp_path, file, hint=HINT) == tmp_path / "b"


def damaged(name: str, damage: str) -> bytes | None:
    packed = PACK[name](CONTENT)
    middle = len(packed) // 2
    return {
        "missing": None,
        "empty": b"",
        "truncated": packed[:-20],
        "one byte": packed[:1],
        "flipped": packed[:middle] + bytes([packed[middle] ^ 1]) + packed[middle + 1 :],
        "other": PACK[name](CONTENT[1:]),
        "garbage": b"<html>404</html>",
    }[damage]


@pytest.mark.parametrize("name", PACK)
@pytest.mark.parametrize(
    "damage", ["missing", "empty", "truncated", "one byte", "flipped", "other", "garbage"]
)
def test_a_damaged_file_is_one_line_with_its_name(tmp_path, name, damage):
    content = damaged(name, damage)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        read_verified(tmp_path, DataFile((name,), SHA256), hint=HINT)
    message = str(error.value)
    assert str(tmp_path / name) in message
    assert message.endswith(HINT)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("missing", "is missing"),
        ("empty", "is empty"),
        ("truncated", "is truncated or corrupt"),
        ("garbage", "is truncated or corrupt"),
        ("other", "has sha256"),
    ],
)
def test_the_message_says_what_is_wrong(tmp_path, damage, reason):
    content = damaged("packed.xz", damage)
    if content is not None:
        (tmp_path / "packed.xz").write_bytes(content)
    with pytest.raises(UserError, match=rf"packed\.xz {reason}"):
        read_verified(tmp_path, DataFile(("packed.xz",), SHA256), hint=HINT)


def test_a_wrong_checksum_says_what_was_found_and_expected(tmp_path):
    (tmp_path / "a").write_bytes(b"other")
    with pytest.raises(UserError) as error:
        read_verified(tmp_path, DataFile(("a",), SHA256), hint=HINT)
    assert SHA256 in str(error.value)
    assert hashlib.sha256(b"other").hexdigest() in str(error.value)


def test_a_folder_in_place_of_the_file_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(UserError, match=r"a cannot be read: Is a directory\."):
        read_verified(tmp_path, DataFile(("a",), SHA256), hint=HINT)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere does not exist\. Set"):
        read_verified(tmp_path / "nowhere", DataFile(("a",), SHA256), hint=HINT)


class Builder:
    """Counts how often the arrays are built."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.calls += 1
        return {"images": np.arange(3000, dtype=np.uint8), "labels": np.array([3, 1])}


def assert_arrays(arrays: dict[str, np.ndarray]) -> None:
    assert list(arrays) == ["images", "labels"]
    np.testing.assert_array_equal(arrays["images"], np.arange(3000, dtype=np.uint8))
    np.testing.assert_array_equal(arrays["labels"], [3, 1])
    assert arrays["images"].dtype == np.uint8


def test_arrays_are_built_once_and_then_read(tmp_path):
    build = Builder()
    for _ in range(3):
        assert_arrays(cached_arrays(tmp_path / "new" / "cache", "key", build))
    assert build.calls == 1
    assert [path.name for path in (tmp_path / "new" / "cache").iterdir()] == ["key.npz"]


def test_another_key_is_another_file(tmp_path):
    build = Builder()
    cached_arrays(tmp_path, "one", build)
    cached_arrays(tmp_path, "other", build)
    assert build.calls == 2


@pytest.mark.parametrize("damage", ["empty", "half", "last byte", "flipped", "garbage", "folder"])
def test_a_corrupt_cache_is_built_again(tmp_path, damage):
    build = Builder()
    cached_arrays(tmp_path, "key", build)
    path = tmp_path / "key.npz"
    content = path.read_bytes()
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        # Byte 1500 is pixel data, which only the archive's own checksum covers.
        flipped = content[:1500] + bytes([content[1500] ^ 4]) + content[1501:]
        path.write_bytes(
            {
                "empty": b"",
                "half": content[: len(content) // 2],
                "last byte": content[:-1],
                "flipped": flipped,
                "garbage": b"garbage" * 100,
            }[damage]
        )
    assert_arrays(cached_arrays(tmp_path, "key", build))
    assert build.calls == 2
    if damage != "folder":
        assert_arrays(cached_arrays(tmp_path, "key", build))
        assert build.calls == 2


def test_a_cache_that_cannot_be_written_is_skipped(tmp_path):
    (tmp_path / "file").touch()
    assert_arrays(cached_arrays(tmp_path / "file", "key", Builder()))
    assert_arrays(cached_arrays(tmp_path / "file" / "below", "key", Builder()))


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def write_half(stream, **arrays):
        stream.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", write_half)
    assert_arrays(cached_arrays(tmp_path, "key", Builder()))
    assert list(tmp_path.iterdir()) == []


def test_what_killed_writers_left_is_removed_after_an_hour(tmp_path):
    old, new = tmp_path / "key.npz.1.tmp", tmp_path / "key.npz.2.tmp"
    old.touch()
    new.touch()
    os.utime(old, (time.time() - 4000,) * 2)
    cached_arrays(tmp_path, "key", Builder())
    assert not old.exists()
    assert new.exists()
