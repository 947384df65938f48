"""What do Kafka, Redis and a worker have in common as processes of a stack?"""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from embedmq_local.errors import StackError
from embedmq_local.port import Port
from embedmq_local.process import Process


class Server(ABC):
    """A program that listens on one port of its own and can be stopped and started again, on the same port and data."""

    start_timeout_s = 60.0
    stop_timeout_s = 10.0

    def __init__(self, name: str, folder: Path, scratch: Path | None) -> None:
        """`folder` is the stack's; `scratch` is the part of it to remove if this process is killed."""
        self.name = name
        self.port = Port()
        self.log = folder / "logs" / f"{name}.log"
        self.process: Process | None = None
        self._scratch = scratch

    @abstractmethod
    def command(self) -> Sequence[str]: ...

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it answers in its own protocol."""

    def environment(self) -> Mapping[str, str] | None:
        """The whole environment of the process; None for this process's own."""
        return None

    @property
    def address(self) -> str:
        return str(self.port)

    @property
    def pid(self) -> int:
        """Of the program itself, as it runs now or ran last."""
        if self.process is None:
            raise StackError(f"{self.name} has not been started")
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def spawn(self) -> None:
        """Start the process, without waiting."""
        if self.running:
            raise StackError(f"{self.name} runs already; stop it first")
        self.port.release()
        self.process = Process(self.name, self.command(), self.log, env=self.environment(), scratch=self._scratch)

    def wait_ready(self, timeout_s: float | None = None) -> None:
        """`ProcessError` if the process ends first or is not ready in time."""
        if self.process is None:
            raise StackError(f"{self.name} has not been started")
        self.process.wait_until(self.is_ready, self.start_timeout_s if timeout_s is None else timeout_s)

    def start(self) -> None:
        self.spawn()
        self.wait_ready()

    def stop(self, sig: int = signal.SIGTERM, timeout_s: float | None = None, *, kill: bool = False) -> int:
        """Send `sig` (with `kill` SIGKILL) and wait; after `timeout_s` kill. The exit code, -N if ended by signal N."""
        if self.process is None:
            raise StackError(f"{self.name} has not been started")
        return self.process.stop(
            signal.SIGKILL if kill else sig, self.stop_timeout_s if timeout_s is None else timeout_s
        )

    def close(self) -> None:
        """Give the port back."""
        self.port.close()


def stop_all(servers: Sequence[Server], sig: int = signal.SIGTERM) -> None:
    """Send `sig` to all at once; each has its own `stop_timeout_s` before it is killed."""
    started = time.monotonic()
    processes = [(server, server.process) for server in servers if server.process is not None]
    for _, process in processes:
        process.signal(sig)
        process.signal(signal.SIGCONT)  # one that is suspended could not obey
    for server, process in processes:
        process.reap(max(0.0, started + server.stop_timeout_s - time.monotonic()))
