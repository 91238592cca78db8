"""The W&B server: which one is meant, whether the user is logged in to it, whether it answers.

W&B itself tells the first two. Where it looks (environment, settings files, netrc) and what its
default server is are its own business, and have changed between its versions.
"""

import atexit
import http.client
import ipaddress
import os
import pwd
import shutil
import socket
import ssl
import tempfile
import time
import urllib.error
import urllib.request
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from experiments.errors import UserError
from experiments.system import log

_PROBE_SECONDS = 2.0  # for each of its addresses
_ASK_AGAIN_SECONDS = 300.0  # in a sweep, whose every run would wait so long for the same
_LOOK_SECONDS = 0.005
_GATEWAY_FAULTS = (502, 503, 504)  # what a proxy says that does not get through


def library() -> ModuleType:
    """Import W&B, told to be silent. It takes seconds, which a run without a mirror is spared."""
    # W&B's reports of its own faults hold the exit for some twenty seconds where nothing answers.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    if not os.environ.get("HOME"):  # W&B's service would log to the terminal, and W&B may not start
        os.environ["HOME"] = _home()
    import wandb

    _look_often_for_the_service()
    return wandb


def _look_often_for_the_service() -> None:
    """Have W&B look for its service, which is there after some 50 ms, every few of them.

    It sleeps 0.2 seconds between two looks, a third of what a short run costs. A service that the
    runs of a sweep shared would save as much, and would know a run that was killed as one that is
    alive. Where W&B has no such sleep any more, nothing is done.
    """
    from wandb.sdk.lib.service import service_port_file

    def sleep(seconds: float) -> None:
        time.sleep(min(seconds, _LOOK_SECONDS))

    if hasattr(service_port_file, "_SLEEP"):
        service_port_file._SLEEP = sleep  # type: ignore[assignment]


def _home() -> str:
    """Find this user's home; an empty one for the time of this process where the system has none.

    Never a folder that others write to: settings in it name the server that everything goes to.
    """
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        folder = tempfile.mkdtemp(prefix="home-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder


def mode() -> str:
    """Ask W&B for its own mode, by WANDB_MODE or by `wandb offline`: `online`, `disabled`, ..."""
    return str(_settings().mode)


def obstacle() -> str | None:
    """Say what keeps a run from going to the server, without asking the user; None: nothing."""
    wandb = library()
    # Not silent, or in another mode, a login asks the network for a name to print, or refuses.
    settings = _settings(silent=True, mode="online")
    url = str(settings.base_url)
    try:
        logged_in = wandb.login(prompt=False, verify=False)
    except wandb.Error as error:  # a key that cannot be one
        return f"no login to {url}: {error}"
    if not logged_in:
        return f"not logged in to {url}: `wandb login`"
    own = {"http": settings.http_proxy, "https": settings.https_proxy}
    unreachable = f"{url} is not reachable"
    if log.was_found(unreachable, seconds=_ASK_AGAIN_SECONDS):
        return unreachable
    if reachable(url, proxies=own):
        return None
    log.found(unreachable)
    return unreachable


def _settings(**changed: Any) -> Any:
    """Read W&B's settings, as W&B does."""
    wandb = library()
    try:
        return wandb.setup(wandb.Settings(**changed)).settings
    except ValueError as error:  # W&B's check of a value
        what = " ".join(str(error).partition(" [type=")[0].split())
        raise UserError(f"W&B refuses its settings (WANDB_... or its file): {what}") from error


def reachable(url: str, *, proxies: dict[str, str | None]) -> bool:
    """Tell whether a server answers, whatever it says, on the way that W&B would take.

    Args:
        url: The server.
        proxies: W&B's own by scheme; where there is none, those of the environment count.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = proxies.get(parts.scheme) or _proxy_of_environment(parts.scheme, host)
    if proxy is None:
        return _connects(host, parts.port or (80 if parts.scheme == "http" else 443))
    if urlsplit(proxy if "//" in proxy else f"//{proxy}").scheme not in ("", "http"):
        return True  # W&B speaks more kinds of proxy than the standard library: it will find out
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({parts.scheme: proxy}))
    try:
        opener.open(urllib.request.Request(url, method="HEAD"), timeout=_PROBE_SECONDS).close()
    except urllib.error.HTTPError as error:
        return error.code not in _GATEWAY_FAULTS
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # it is there; W&B judges its certificate
    except (OSError, http.client.HTTPException):
        return False
    return True


def _proxy_of_environment(scheme: str, host: str) -> str | None:
    """Name the proxy that W&B takes from HTTPS_PROXY, HTTP_PROXY and NO_PROXY, as Go reads them."""
    if _is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(scheme)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _connects(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=_PROBE_SECONDS):
            return True
    except OSError:
        return False
