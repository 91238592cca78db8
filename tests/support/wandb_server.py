"""A stand-in for the W&B server on the loopback interface: it keeps what W&B's client sends."""

import contextlib
import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class WandbServer(ThreadingHTTPServer):
    """Answers the few queries that an upload consists of."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.history: dict[str, list[dict[str, Any]]] = {}  # by run id, one a row
        self.created: dict[str, dict[str, Any]] = {}  # by run id, what the last upsert told
        self.files: dict[str, bytes] = {}
        self.calls = 0
        self.silent = False  # whether requests are left without an answer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no fault."""

    def answer(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        project = {
            "id": "p",
            "name": given.get("project"),
            "entity": {"id": "e", "name": "someone"},
        }
        name = given.get("name") or ""
        if "query RunResumeStatus" in query:
            return {"model": {**project, "bucket": self._bucket(name)}}
        if "mutation UpsertBucket" in query:
            self.history.setdefault(name, [])
            told = {key: value for key, value in given.items() if value is not None}
            self.created.setdefault(name, {}).update(told)
            return {
                "upsertBucket": {
                    "bucket": {**self._bucket(name), "project": project},
                    "inserted": True,
                }
            }
        if "mutation CreateRunFiles" in query:
            files = [{"name": n, "uploadUrl": f"{self.url}/upload/{n}"} for n in given["files"]]
            return {"createRunFiles": {"runID": "x", "uploadHeaders": [], "files": files}}
        return {}

    def _bucket(self, name: str) -> dict[str, Any] | None:
        if name not in self.history:
            return None
        rows = self.history[name]
        return {
            "id": f"id-{name}",
            "name": name,
            "displayName": name,
            "description": "",
            "notes": "",
            "tags": [],
            "config": "{}",
            "sweepName": None,
            "summaryMetrics": "{}",
            "logLineCount": 0,
            "eventsLineCount": 0,
            "historyLineCount": len(rows),
            "historyTail": json.dumps([json.dumps(row) for row in rows[-1:]]),
            "eventsTail": "[]",
            "wandbConfig": '{"t": 1}',
        }

    def stream(self, run_id: str, files: dict[str, Any]) -> None:
        chunk = files.get("wandb-history.jsonl")
        if chunk is not None:
            rows = self.history[run_id]
            end = chunk["offset"] + len(chunk["content"])
            rows[chunk["offset"] : end] = [json.loads(line) for line in chunk["content"]]


class _Handler(BaseHTTPRequestHandler):
    server: WandbServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._say({})

    def do_PUT(self) -> None:
        self.server.files[self.path.removeprefix("/upload/")] = self._content()
        self._say({})

    def do_POST(self) -> None:
        content = self._content()
        self.server.calls += 1
        if self.server.silent:
            threading.Event().wait()
        if self.path.endswith("/graphql"):
            request = json.loads(content)
            self._say({"data": self.server.answer(request["query"], request["variables"] or {})})
        elif self.path.endswith("/file_stream"):
            self.server.stream(self.path.split("/")[-2], json.loads(content).get("files") or {})
            self._say({})
        else:
            self._say({})

    def _content(self) -> bytes:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        zipped = self.headers.get("Content-Encoding") == "gzip"
        return gzip.decompress(content) if zipped else content

    def _say(self, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing is printed."""


@contextlib.contextmanager
def serving() -> Iterator[WandbServer]:
    with WandbServer() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
