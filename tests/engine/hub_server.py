"""What does a hub answer that has one model, and what does it answer on a bad day?

The calls are those that huggingface_hub makes: which commit is a revision, which files does it have, `HEAD` and `GET`
of each. Small files are named by git's SHA-1, weights by their SHA-256, as the hub does.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

NAME = "org/tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"

Mode = Literal["ok", "error", "forbidden", "gated", "bad token", "stalls", "truncated", "corrupted", "no contact"]


@dataclass
class Hub:
    """A running hub. `mode` may be changed between two requests; `asked` has every request that came."""

    files: dict[str, bytes]
    mode: Mode = "ok"
    endpoint: str = ""
    asked: list[str] = field(default_factory=list[str])
    tokens: set[str] = field(default_factory=set[str])
    going: threading.Event = field(default_factory=threading.Event)

    def fetched(self) -> set[str]:
        """The files whose bytes somebody asked for."""
        return {
            line.partition(f"/{COMMIT}/")[2] for line in self.asked if line.startswith("GET") and "/resolve/" in line
        }


@contextmanager
def serve(folder: Path, mode: Mode = "ok") -> Iterator[Hub]:
    """A hub on a free port that has the files of `folder` as the model `org/tiny`, on the branch `main`."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    hub = Hub(files, mode)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answering", (_Answers,), {"hub": hub}))
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.going.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Answers(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the tests look at `asked`."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        if token := self.headers.get("Authorization"):
            self.hub.tokens.add(token)
        if self.hub.mode == "stalls":
            self.hub.going.wait(60)
            self.close_connection = True
        elif self.hub.mode == "error":
            self._answer(500)
        elif self.hub.mode == "bad token":
            self._answer(401, {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif f"/{NAME}" not in path:
            self._answer(404, {"X-Error-Code": "RepoNotFound"})
        else:
            self._model(path)

    def _model(self, path: str) -> None:
        if path.startswith((f"/api/models/{NAME}/revision/", f"/api/models/{NAME}/tree/")):
            if path.rpartition("/")[2] not in ("main", COMMIT):
                self._answer(404, {"X-Error-Code": "RevisionNotFound"})
            elif "/tree/" in path:
                self._json([_entry(name, content) for name, content in self.hub.files.items()])
            else:
                self._json({"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": name} for name in self.hub.files]})
        else:
            self._file(path.removeprefix(f"/{NAME}/resolve/").partition("/")[2])

    def _file(self, name: str) -> None:
        if self.hub.mode == "gated":
            return self._answer(401, {"X-Error-Code": "GatedRepo"})
        if self.hub.mode == "forbidden":
            return self._answer(403)
        content = self.hub.files.get(name)
        if content is None:
            return self._answer(404, {"X-Error-Code": "EntryNotFound"})
        headers = {"ETag": f'"{_name(name, content)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if name.endswith(".safetensors"):
            headers |= {"X-Linked-Size": str(len(content)), "X-Linked-Etag": headers["ETag"]}
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if self.command == "GET" and name.endswith(".safetensors"):
            if self.hub.mode == "truncated":
                content = content[: len(content) // 2]
            if self.hub.mode == "corrupted":
                content = content[:-1] + bytes([content[-1] ^ 1])
        return self._answer(206 if start else 200, headers, content[start:])

    def _json(self, value: object) -> None:
        self._answer(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _name(name: str, content: bytes) -> str:
    if name.endswith((".safetensors", ".bin")):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(name: str, content: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": name, "size": len(content), "oid": _name(name, content)}
    if name.endswith((".safetensors", ".bin")):
        entry["lfs"] = {"oid": _name(name, content), "size": len(content), "pointerSize": 130}
    return entry
