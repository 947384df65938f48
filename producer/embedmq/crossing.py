"""How does a stream run on the client's event loop while its source and its consumer stay in a thread without one?"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Generator, Iterable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Generic, Protocol, TypeVar

from embedmq.feeding import WANTED, Feed, Tap
from embedmq.flow import Run
from embedmq.map_items import Mapped
from embedmq.source import Source, check_source

T = TypeVar("T")
R = TypeVar("R")


class Start(Protocol):
    """Begins a coroutine on the client's loop; raises RuntimeError once there is none."""

    def __call__(self, work: Coroutine[object, object, R], /) -> Future[R]: ...


class _FarSide(Generic[T]):
    """The map, on the loop."""

    def __init__(self, mapped: Mapped[T]) -> None:
        self.max_in_flight = mapped.max_in_flight
        self._runs = mapped.runs
        self._step: asyncio.Task[object] | None = None

    async def next(self) -> Run[T] | None:
        """What comes out next; None at the end."""
        self._step = asyncio.current_task()
        try:
            return await anext(self._runs, None)
        finally:
            self._step = None

    async def close(self) -> None:
        """End it, and what waits for it."""
        if self._step is not None:
            self._step.cancel()
            await asyncio.wait({self._step})
        await self._runs.aclose()


def cross(start: Start, begin: Callable[[Source], Mapped[T]], source: Source) -> Generator[T, None, None]:
    """The values of the map that `begin` begins on the loop, one by one; raises what it raises at once.

    The source is asked in the thread that asks for values, when it does: what is bound to a thread (cursors,
    connections) may be used in it, and the loop never waits for it. Closing this early, or an exception in the thread,
    Ctrl-C too, cancels what is on its way. An async source is asked on the loop.
    """
    check_source(source)
    words: SimpleQueue[object] = SimpleQueue()
    feed = Feed(words)
    far = start(_begin(begin, feed if isinstance(source, Iterable) else source)).result()
    tap = Tap(iter(source), feed, far.max_in_flight, counted=True) if isinstance(source, Iterable) else None
    return _values(start, far, words, tap)


def cross_once(
    start: Start, work: Callable[[Source], Coroutine[object, object, T]], source: Source, max_in_flight: int
) -> T:
    """What `work` returns on the loop, while the source is asked as by `cross`, for `max_in_flight` items at a time."""
    check_source(source)
    words: SimpleQueue[object] = SimpleQueue()
    feed = Feed(words)
    tap = Tap(iter(source), feed, max_in_flight, counted=False) if isinstance(source, Iterable) else None
    step = start(work(feed if isinstance(source, Iterable) else source))
    step.add_done_callback(words.put)
    try:
        _serve(words, tap)
        return step.result()
    finally:
        step.cancel()
        if tap is not None:
            tap.close()


async def _begin(begin: Callable[[Source], Mapped[T]], source: Source) -> _FarSide[T]:
    return _FarSide(begin(source))


def _values(start: Start, far: _FarSide[T], words: SimpleQueue[object], tap: Tap | None) -> Generator[T, None, None]:
    try:
        while True:
            step = start(far.next())
            step.add_done_callback(words.put)
            _serve(words, tap)
            run = step.result()
            if run is None:
                return
            yield from run.values
            if tap is not None:
                tap.give_back(run.items)
    finally:
        _end(start, far)
        if tap is not None:
            tap.close()


def _serve(words: SimpleQueue[object], tap: Tap | None) -> None:
    """Wait for the step that was begun, and ask the source when more is wanted and it has rested."""
    while True:
        try:
            word = words.get(timeout=None if tap is None else tap.rest_s())
        except Empty:
            if tap is not None:
                tap.open()
            continue
        if word is not WANTED:
            return
        if tap is not None:
            tap.wanted = True


def _end(start: Start, far: _FarSide[T]) -> None:
    """End the stream, and wait for that, except where the loop itself comes by to clear up."""
    with contextlib.suppress(RuntimeError):  # the client was closed, and the stream with it
        closing = start(far.close())
        if asyncio._get_running_loop() is None:
            closing.result()
