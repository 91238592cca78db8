"""Downloads from a server on this machine that misbehaves as servers and networks do."""

import hashlib
import io
import re
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from experiments.errors import UserError
from experiments.tasks import download
from experiments.tasks.source import Remote, Source

CONTENT = bytes(range(256)) * 5000


class Server(ThreadingHTTPServer):
    """Serves one file and notes what was asked for.

    Attributes:
        content: The file.
        ranges: Whether a part can be asked for.
        cuts: After how many bytes each next answer breaks off; None: never.
        status: Answer of another status, for as long as it is set.
        asked: The `Range` of each request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.ranges, self.status = CONTENT, True, None
        self.cuts: list[int | None] = []
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        if server.status:
            self.send_error(server.status)
            return
        first = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and server.ranges else 0
        size = len(server.content)
        if first >= size:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.end_headers()
            return
        self.send_response(206 if wanted and server.ranges else 200)
        if wanted and server.ranges:
            self.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - first))
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else None
        self.wfile.write(server.content[first:][:cut])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(loopback: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def remote(server: Server, content: bytes = CONTENT, kind: str = "sha256", **changes) -> Remote:
    digest = hashlib.new(kind, content).hexdigest()
    return Remote(server.url, **({"path": "set/file", "checksum": f"{kind}:{digest}"} | changes))


def get(server, folder, wanted=None):
    return download.fetch_file(wanted or remote(server), folder, notify=lambda line: None)


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_file_is_fetched_verified_and_put_in_place(server, tmp_path, kind):
    path = get(server, tmp_path / "new" / "data", remote(server, kind=kind))
    assert path == tmp_path / "new" / "data" / "set" / "file"
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_what_is_there_and_verified_is_not_asked_for(server, tmp_path):
    get(server, tmp_path)
    get(server, tmp_path)
    assert len(server.asked) == 1


def test_what_is_there_and_is_another_file_is_replaced(server, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "file").write_bytes(b"another")
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_broken_connection_goes_on_where_it_was(server, tmp_path):
    server.cuts = [1000, 70_000]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000-", "bytes=71000-"]


def test_a_later_call_goes_on_where_the_first_gave_up(server, tmp_path):
    server.cuts = [1000, 0, 0, 0]
    with pytest.raises(UserError, match="1,000 bytes are kept; the same command goes on") as error:
        get(server, tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "set" / "file").exists()
    server.asked.clear()
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"]


def test_a_server_without_ranges_starts_anew(server, tmp_path):
    server.ranges, server.cuts = False, [1000]
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_part_that_is_whole_is_only_put_in_place(server, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "file.part").write_bytes(CONTENT)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_a_part_that_is_longer_than_the_file_is_dropped(server, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "file.part").write_bytes(CONTENT + b"more")
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_part_of_another_file_is_found_out(server, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "file.part").write_bytes(b"other")
    with pytest.raises(UserError, match="not the published file"):
        get(server, tmp_path)
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_another_file_than_the_published_is_removed(server, tmp_path):
    server.content = CONTENT[:-1]
    with pytest.raises(UserError, match=r"gave 1,279,999 bytes with sha256:\w+, expected") as error:
        get(server, tmp_path)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "set").iterdir()) == []


@pytest.mark.parametrize(("status", "asked"), [(404, 1), (403, 1), (503, 4), (429, 4)])
def test_only_an_answer_that_may_change_is_asked_for_again(server, tmp_path, status, asked):
    server.status = status
    with pytest.raises(UserError, match=f"could not be fetched.*{status}"):
        get(server, tmp_path)
    assert len(server.asked) == asked


def test_without_a_network_there_is_one_line_at_once(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda seconds: pytest.fail("waits"))
    wanted = remote(server)
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match=r"could not be fetched to .*no connection") as error:
        get(server, tmp_path, wanted)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "set").iterdir()) == []


def test_an_archive_is_unpacked_and_then_removed(server, tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        info = tarfile.TarInfo("set/a.txt")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"one"))
    server.content = packed.getvalue()
    wanted = remote(server, server.content, path="set.tar.gz", unpack=True)
    download.fetch(Source("A set", "small", "free", "set", (wanted,)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert (tmp_path / "set" / "a.txt").read_bytes() == b"one"


def test_what_nobody_can_fetch_says_what_to_do(tmp_path):
    source = Source("A set", "large", "licensed", "set", manual="Ask its owner.")
    with pytest.raises(UserError, match=r"A set cannot be fetched for you\. Ask its owner\."):
        download.fetch(source, tmp_path)


def test_a_disk_that_is_full_is_no_matter_of_the_network(server, tmp_path, monkeypatch):
    opened = type(tmp_path).open

    def full(self, *arguments, **keywords):
        if self.name.endswith(".part"):
            raise OSError(28, "No space left on device", str(self))
        return opened(self, *arguments, **keywords)

    monkeypatch.setattr(type(tmp_path), "open", full)
    with pytest.raises(OSError, match="No space left"):
        get(server, tmp_path)
    assert len(server.asked) == 1
