import io
import tarfile
import zipfile

import pytest

from experiments.errors import UserError
from experiments.tasks.unpack import unpack

GOOD = {"set/a.txt": b"one", "set/deep/b.bin": bytes(range(256))}


def make_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def make_tar(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


MAKERS = {"zip": make_zip, "tar.gz": make_tar}


@pytest.fixture(params=MAKERS)
def make(request, tmp_path):
    def maker(files):
        path = tmp_path / f"archive.{request.param}"
        MAKERS[request.param](path, files)
        return path

    return maker


def test_everything_lands_where_it_belongs(make, tmp_path):
    target = tmp_path / "data"
    unpack(make(GOOD), target)
    found = {
        str(path.relative_to(target)): path.read_bytes()
        for path in target.rglob("*")
        if path.is_file()
    }
    assert found == GOOD
    assert {path.name for path in target.iterdir()} == {"set"}


def test_files_of_the_same_name_are_replaced_and_others_stay(make, tmp_path):
    (tmp_path / "data" / "set").mkdir(parents=True)
    (tmp_path / "data" / "set" / "a.txt").write_bytes(b"damaged")
    (tmp_path / "data" / "mine.txt").write_bytes(b"mine")
    unpack(make(GOOD), tmp_path / "data")
    assert (tmp_path / "data" / "set" / "a.txt").read_bytes() == b"one"
    assert (tmp_path / "data" / "mine.txt").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "name",
    ["../evil", "set/../../evil", "/evil", "\\\\host\\evil", "C:\\evil", "set\\..\\..\\evil"],
)
def test_a_path_that_escapes_is_refused_and_leaves_nothing(make, tmp_path, name):
    archive = make(GOOD | {name: b"x"})
    target = tmp_path / "data"
    with pytest.raises(UserError, match=r"refused: .*lies outside of it") as error:
        unpack(archive, target)
    assert "\n" not in str(error.value)
    assert list(target.iterdir()) == []
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_a_tar_member_that_is_no_file_is_refused(tmp_path, kind):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("set/link")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(UserError, match="'set/link' is neither file nor folder"):
        unpack(path, tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_a_link_in_a_zip_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("set/link")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match="'set/link' is neither file nor folder"):
        unpack(path, tmp_path / "data")


def test_a_zip_with_folder_entries(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("set/", b"")
        archive.writestr("set/empty/", b"")
        archive.writestr("set/a.txt", b"one")
    unpack(path, tmp_path / "data")
    assert (tmp_path / "data" / "set" / "empty").is_dir()
    assert (tmp_path / "data" / "set" / "a.txt").read_bytes() == b"one"


def test_an_archive_that_is_damaged_is_one_line(make, tmp_path):
    archive = make(GOOD)
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=f"Archive {archive} is refused: ") as error:
        unpack(archive, tmp_path / "data")
    assert "\n" not in str(error.value)
    assert list((tmp_path / "data").iterdir()) == []
