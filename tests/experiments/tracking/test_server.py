"""Which W&B server a run would go to: the one that W&B's own commands and settings name."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from experiments.system import log
from experiments.tracking import server
from experiments.tracking import wandb as mirror

KEY = "0123456789" * 4
DIRECT: dict[str, str | None] = {}


@pytest.fixture
def asked(monkeypatch, no_login) -> list[str]:
    """The servers whose reachability was asked, all of which answer."""
    urls: list[str] = []
    monkeypatch.setattr(server, "reachable", lambda url, proxies: not urls.append(url))
    return urls


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What W&B's own commands leave in a home; none of them asks the network."""
    made = {}
    for name, words in {
        "login": [["login", KEY, "--no-verify"]],
        "host": [["login", "--host", "http://127.0.0.1:18999", KEY, "--no-verify"]],
        "offline": [["login", KEY, "--no-verify"], ["offline"]],
    }.items():
        home = made[name] = tmp_path_factory.mktemp(name)
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "NETRC"))}
        for line in words:
            subprocess.run(
                [sys.executable, "-m", "wandb", *line],
                env=environment | {"HOME": str(home)},
                cwd=home,
                check=True,
                capture_output=True,
            )
    return made


def at_home(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    for name in ("NETRC", "WANDB_CONFIG_DIR"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)


def test_a_plain_login_is_for_wandbs_own_default_server(monkeypatch, asked, homes):
    at_home(monkeypatch, homes["login"])
    import wandb

    assert mirror.resolve("auto") == ("online", None)
    assert asked == [wandb.Settings().base_url]
    (machine,) = (homes["login"] / ".netrc").read_text().split("\n")[:1]
    assert asked == [f"https://{machine.removeprefix('machine ')}"]


def test_a_login_to_a_server_of_ones_own_with_a_port(monkeypatch, asked, homes):
    at_home(monkeypatch, homes["host"])
    assert mirror.resolve("auto") == ("online", None)
    assert asked == ["http://127.0.0.1:18999"]


def test_a_login_to_one_server_is_none_to_another(monkeypatch, asked, homes):
    at_home(monkeypatch, homes["host"])
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    reason = "not logged in to https://wandb.example.org: `wandb login`"
    assert mirror.resolve("auto") == ("offline", reason)
    assert asked == []


def test_wandb_offline_is_heard_by_runs_and_not_by_an_upload(monkeypatch, asked, homes):
    at_home(monkeypatch, homes["offline"])
    mode, reason = mirror.resolve("auto")
    assert (mode, reason) == ("offline", "W&B's own mode, by WANDB_MODE or `wandb offline`")
    assert server.obstacle() is None
    assert len(asked) == 1


def test_a_key_that_cannot_be_one_is_named_with_its_server(monkeypatch, asked):
    monkeypatch.setenv("WANDB_API_KEY", "abc")
    mode, reason = mirror.resolve("auto")
    assert mode == "offline"
    assert "40+ characters, has 3" in reason
    assert reason.startswith("no login to https://")


def test_a_dead_network_is_noticed_at_once(loopback):
    with socket.socket() as taken:  # bound and not listening: the connection is refused
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert not server.reachable(url, proxies=DIRECT)
        taken.listen()
        assert server.reachable(url, proxies=DIRECT)


class Proxy(HTTPServer):
    """Notes what it is asked for, and answers with one status."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Proxy

    def do_CONNECT(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def proxy(monkeypatch, loopback) -> Iterator[Proxy]:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    with Proxy() as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield proxy
        proxy.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("https://wandb.example.org", "CONNECT wandb.example.org:443"),
        ("http://wandb.example.org:8080", "HEAD http://wandb.example.org:8080"),
    ],
)
@pytest.mark.parametrize(("status", "reached"), [(200, True), (503, False)])
def test_a_server_behind_a_proxy_is_asked_through_it(
    proxy, monkeypatch, url, asked, status, reached
):
    proxy.status = status
    monkeypatch.setenv(f"{url.partition(':')[0]}_proxy", proxy.url)
    assert server.reachable(url, proxies=DIRECT) == reached
    assert proxy.asked == [asked]


def test_wandbs_own_proxy_counts_before_the_environments(proxy, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert server.reachable("https://wandb.example.org", proxies={"https": proxy.url})
    assert proxy.asked == ["CONNECT wandb.example.org:443"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "inner.example.org"])
def test_what_no_proxy_is_for_is_asked_directly(proxy, monkeypatch, host):
    tried = []
    monkeypatch.setattr(server, "_connects", lambda *address: not tried.append(address))
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", ".example.org")
    assert server.reachable(f"http://{host}:8080", proxies=DIRECT)
    assert (tried, proxy.asked) == ([(host, 8080)], [])


def test_a_proxy_of_another_kind_is_left_to_wandb(monkeypatch):
    assert server.reachable("https://wandb.example.org", proxies={"https": "socks5://nowhere:1"})


def test_runs_of_a_sweep_do_not_wait_for_a_server_that_another_has_not_reached(
    monkeypatch, asked, homes, tmp_path
):
    at_home(monkeypatch, homes["login"])
    monkeypatch.setenv(log.SAID_VARIABLE, str(tmp_path))
    monkeypatch.setattr(server, "reachable", lambda url, proxies: bool(asked.append(url)))
    first = server.obstacle()
    assert first is not None
    assert server.obstacle() == first
    assert len(asked) == 1
    monkeypatch.setattr(server, "_ASK_AGAIN_SECONDS", 0.0)  # as when some minutes have passed
    assert server.obstacle() == first
    assert len(asked) == 2
