"""Where a data set comes from: each task's module declares it as its ``SOURCE``."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Remote:
    """A file that can be fetched.

    Attributes:
        url: Its address.
        path: Where it is put, below the data folder; of an archive, until it is unpacked.
        checksum: ``md5:`` or ``sha256:`` and the digest of the file as it is served.
        unpack: Whether it is an archive, whose content goes into the data folder.
    """

    url: str
    path: str
    checksum: str
    unpack: bool = False


@dataclass(frozen=True)
class Source:
    """A data set, as the user is told of it before anything is fetched.

    Attributes:
        title: What it is.
        size: How much is fetched, and how much it takes.
        terms: What its owner allows, as far as is known.
        place: File or folder below the data folder that holds it in the end; empty where the data
            come with the suite.
        files: What is fetched; none where nobody can fetch it for the user.
        manual: What the user has to do where ``files`` is empty.
        made_up: Whether there are no data: a function, or samples that are generated.
    """

    title: str
    size: str
    terms: str
    place: str = ""
    files: tuple[Remote, ...] = ()
    manual: str = ""
    made_up: bool = False
