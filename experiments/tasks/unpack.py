"""Archives, unpacked so that nothing of them lands outside the folder that was meant."""

import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from experiments.errors import UserError, one_line


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a ``.zip`` or (compressed) ``.tar`` into ``folder``.

    It is unpacked beside its destination first and then moved file by file, so that an archive
    that is refused, or cut off, leaves nothing half there. Files of the same name are replaced,
    others stay.

    Raises:
        UserError: If a member would land outside the folder, is no file or folder, or the archive
            cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as name:
        aside = Path(name)
        try:
            if zipfile.is_zipfile(archive):
                _unzip(archive, aside)
            else:
                _untar(archive, aside)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise UserError(f"Archive {archive} is refused: {one_line(error)}.") from None
        for path in sorted(aside.rglob("*")):
            target = folder / path.relative_to(aside)
            if path.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                path.replace(target)


def _untar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as opened:
        for member in opened:
            _check(archive, member.name, plain=member.isfile() or member.isdir())
            opened.extract(member, folder, filter="data")


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            _check(archive, member.filename, plain=kind in (0, stat.S_IFREG, stat.S_IFDIR))
            if member.is_dir():
                (folder / member.filename).mkdir(parents=True, exist_ok=True)
                continue
            (folder / member.filename).parent.mkdir(parents=True, exist_ok=True)
            with opened.open(member) as source, (folder / member.filename).open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)


def _check(archive: Path, name: str, *, plain: bool) -> None:
    """Refuse what is no plain file or folder within the archive's own tree."""
    paths = (PurePosixPath(name), PureWindowsPath(name))  # a name that is absolute on either
    if any(path.is_absolute() or path.drive or ".." in path.parts for path in paths):
        raise UserError(f"Archive {archive} is refused: {name!r} lies outside of it.")
    if not plain:
        raise UserError(f"Archive {archive} is refused: {name!r} is neither file nor folder.")
