"""How do several workers run as one command: started together, restarted when they die, ended together?

The parent imports no model and talks to neither Kafka nor Redis: it waits for its children and for signals.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import random
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from msgspec import Struct

from embedmq_worker.config import Config
from embedmq_worker.errors import ConfigInvalid

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
FINAL_CODES: Final = (2, 3)
"""Exit codes of a first start that another start would not change: configuration, Kafka or Redis not reached."""
MARGIN_S: Final = 10.0
"""What a worker may take beyond `shutdown_grace_s`, to commit and to leave, before it is killed."""
HIGHEST_PORT: Final = 65_535
PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h

log = logging.getLogger(__name__)


class Restarts(Struct, frozen=True, kw_only=True):
    """When is a worker that died started again, and when is it no use? Pure."""

    first_s: float = 1.0
    """Wait before the first restart; doubled by each further one."""
    longest_s: float = 30.0
    steady_s: float = 60.0
    """Who lived so long had started well: its next restart is a first one."""
    attempts: int = 12
    """Starts in a row that fail, of each of the workers, before the command gives up: a record that kills processes is
    found in six to nine (see `starts`), one right behind it in three more, however many workers share the deaths.
    """

    def failures(self, before: int, lived_s: float) -> int:
        """How many starts in a row have failed now."""
        return 1 if lived_s >= self.steady_s else before + 1

    def delay_s(self, failures: int, spread: float) -> float:
        """How long to wait; `spread` (0 to 1) takes off up to half, so that workers do not come back in step."""
        return min(self.longest_s, self.first_s * 2.0 ** (failures - 1)) * (1 - spread / 2)


class Child(Struct, frozen=True):
    """How one worker is started."""

    command: Sequence[str]
    environ: Mapping[str, str]
    http: str


def children(config: Config, file: str, workers: int, environ: Mapping[str, str]) -> list[Child]:
    """The same command for each, on ports that follow each other (port 0: free ones).

    Raises:
        ConfigInvalid: there are not so many ports.
    """
    host, _, port = config.worker.http.rpartition(":")
    first = int(port) if port.isascii() and port.isdecimal() else HIGHEST_PORT
    if first + workers - 1 > HIGHEST_PORT:
        raise ConfigInvalid(f"worker.http = {config.worker.http!r}: {workers} workers need as many ports from there on")
    told = ("--parent", str(os.getpid()), "--sharers", str(workers))
    command = (sys.executable, "-m", "embedmq", "worker", "--config", file, *told)
    addresses = [f"{host}:{first + index if first else 0}" for index in range(workers)]
    return [Child(command, {**environ, "EMBEDMQ_WORKER__HTTP": http}, http) for http in addresses]


def end_with(parent: int) -> None:
    """Called in a child: where the system can tell (Linux), drain and end when the parent is gone, even by kill -9."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != parent:
            raise SystemExit(0)


class Supervisor:
    """Keeps one process running for each child until a signal comes or starting them is no use."""

    def __init__(self, children: Sequence[Child], grace_s: float, restarts: Restarts) -> None:
        """`grace_s`: how long children have, after the signal, to end by themselves."""
        self._children = children
        self._grace_s = grace_s
        self._restarts = restarts
        self._running: dict[int, Process] = {}
        self._failures = [0] * len(children)

    async def run(self) -> int:
        """Returns the exit code: 0 after a signal, 2 or 3 as the first start had it, 1 when nothing helped."""
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()
        for caught in SIGNALS:
            loop.add_signal_handler(caught, _note, told, caught)
        loop.add_signal_handler(signal.SIGHUP, self._pass_on)
        keeping = [asyncio.create_task(self._keep(index)) for index in range(len(self._children))]
        await asyncio.wait([told, *keeping], return_when=asyncio.FIRST_COMPLETED)
        number = told.result() if told.done() else int(signal.SIGTERM)
        codes = [task.result() for task in keeping if task.done()]
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
        in_time = await self._end(number)
        return max(codes, default=0 if in_time else 1)

    async def _keep(self, index: int) -> int:
        """Start one child again and again; returns only when the whole command should end, with its exit code."""
        clock = asyncio.get_running_loop().time
        child, first = self._children[index], True
        while True:
            start_s = clock()
            with _held_back(signal.SIGHUP):  # it would end a child that is not ready for it
                process = await asyncio.create_subprocess_exec(*child.command, env=child.environ, process_group=0)
            self._running[index] = process
            log.info("worker_started", extra={"pid": process.pid, "http": child.http})
            code = await process.wait()
            del self._running[index]
            self._failures[index] = self._restarts.failures(self._failures[index], clock() - start_s)
            if first and code in FINAL_CODES:
                return code
            if min(self._failures) >= self._restarts.attempts:
                log.error("gave_up", extra={"pid": process.pid, "code": code, "attempts": self._restarts.attempts})
                return 1
            first = False
            delay_s = self._restarts.delay_s(self._failures[index], random.random())
            log.warning("worker_died", extra={"pid": process.pid, "code": code, "restart_in_s": round(delay_s, 3)})
            await asyncio.sleep(delay_s)

    def _pass_on(self) -> None:
        """Have every child read its configuration again."""
        for process in self._running.values():
            if process.returncode is None:
                process.send_signal(signal.SIGHUP)

    async def _end(self, number: int) -> bool:
        """Tell all that run, wait, kill who is late; whether nobody was."""
        running = list(self._running.values())
        log.info("stopping_workers", extra={"pids": [process.pid for process in running]})
        for process in running:
            if process.returncode is None:
                process.send_signal(number)
        waiting = {asyncio.create_task(process.wait()) for process in running}
        late = (await asyncio.wait(waiting, timeout=self._grace_s))[1] if waiting else set()
        for process in running:
            if process.returncode is None:
                log.error("worker_killed", extra={"pid": process.pid, "grace_s": self._grace_s})
                process.kill()
        if late:
            await asyncio.wait(late)
        return not late


@contextmanager
def _held_back(number: int) -> Iterator[None]:
    """A child that is started inside gets the signal only when it asks for it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})


def _note(told: asyncio.Future[int], number: int) -> None:
    if not told.done():
        told.set_result(number)
