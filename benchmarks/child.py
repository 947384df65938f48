"""How is something measured that must share its process with nothing else? In one of its own, asked in turn."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Generic, TypeVar, cast

WORK = TypeVar("WORK")
ANSWER = TypeVar("ANSWER")
READY = "ready"
END_TIMEOUT_S = 10.0


class Child(Generic[WORK, ANSWER]):
    """A function in another process; called like one here."""

    def __init__(self, connection: Connection[WORK, ANSWER | str], pid: int) -> None:
        self.pid = pid
        self._connection = connection
        self._receive()  # it has loaded: whoever starts next has the machine to itself

    def __call__(self, work: WORK) -> ANSWER:
        """What it answers."""
        self._connection.send(work)
        return cast("ANSWER", self._receive())

    def _receive(self) -> ANSWER | str:
        try:
            return self._connection.recv()
        except EOFError:
            raise RuntimeError(f"process {self.pid} has ended; its error is above") from None


@contextlib.contextmanager
def child(start: Callable[[], Callable[[WORK], ANSWER]]) -> Iterator[Child[WORK, ANSWER]]:
    """Start a process in which `start` makes the function; it ends here, or with this process."""
    context = get_context("spawn")
    pipe = cast("tuple[Connection[WORK, ANSWER | str], Connection[ANSWER | str, WORK]]", context.Pipe())
    here, there = pipe
    process = context.Process(target=_serve, args=(there, start), daemon=True)
    process.start()
    there.close()
    try:
        yield Child(here, process.pid or 0)
    finally:
        here.close()
        process.join(END_TIMEOUT_S)


def _serve(connection: Connection[ANSWER | str, WORK], start: Callable[[], Callable[[WORK], ANSWER]]) -> None:
    answer = start()
    connection.send(READY)
    with contextlib.suppress(EOFError, ConnectionError):  # whoever asks has gone
        while True:
            connection.send(answer(connection.recv()))
