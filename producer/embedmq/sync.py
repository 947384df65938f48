"""How does a program without an event loop ask for vectors?"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Callable, Coroutine, Generator, Mapping
from concurrent import futures
from functools import update_wrapper
from types import TracebackType
from typing import Any, Concatenate, Literal, ParamSpec, Self, TypeVar, Unpack, overload

from embedmq.client import Client
from embedmq.crossing import cross, cross_once
from embedmq.embeddings import Embedding
from embedmq.errors import EmbedMQError
from embedmq.map_items import MapOptions, Mapped
from embedmq.publish_all import PublishAllOptions, Published
from embedmq.settings import Settings
from embedmq.source import Source

NOT_STARTED = "this client is not started: use it inside `with client:`"
END_TIMEOUT_S = 2.0
"""How long calls of other threads may take to end once the client is closed."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _waiting(
    method: Callable[Concatenate[Client, _P], Coroutine[object, object, _R]],
) -> Callable[Concatenate[SyncClient, _P], _R]:
    """The same method, which returns when it is done; it may be called from any number of threads."""

    def call(self: SyncClient, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return self._wait(method(self._client, *args, **kwargs))

    update_wrapper(call, method)
    return call


class SyncClient:
    """A `Client` on a thread of its own; methods and errors are the same.

    with SyncClient(kafka="127.0.0.1:9092", redis="redis://127.0.0.1:6379") as mq:
        mq.embed("minilm", ["a cat", "a dog"]).dense
    """

    def __init__(self, kafka: str, redis: str | None = None, **settings: Unpack[Settings]) -> None:
        self._client = Client(kafka, redis, **settings)
        self._runner: _Runner | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """As `Client.from_env`."""
        client = cls.__new__(cls)
        client._client = Client.from_env(environ)
        client._runner = None
        return client

    def __enter__(self) -> Self:
        """Connect; raises Unavailable."""
        if self._runner is not None:
            raise RuntimeError("this client is started already: use one `with` at a time")
        self._runner = _Runner()
        try:
            self._wait(self._client.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._wait(self._client.__aexit__(kind, error, trace))
        finally:
            self._stop()

    embed = _waiting(Client.embed)
    score = _waiting(Client.score)
    submit = _waiting(Client.submit)
    publish = _waiting(Client.publish)
    result = _waiting(Client.result)
    any_result = _waiting(Client.any_result)
    cancel = _waiting(Client.cancel)
    models = _waiting(Client.models)

    @overload
    def map(
        self, model: str, items: Source, *, return_exceptions: Literal[False] = False, **options: Unpack[MapOptions]
    ) -> Generator[Embedding, None, None]: ...
    @overload
    def map(
        self, model: str, items: Source, *, return_exceptions: bool, **options: Unpack[MapOptions]
    ) -> Generator[Embedding | EmbedMQError, None, None]: ...
    def map(
        self, model: str, items: Source, *, return_exceptions: bool = False, **options: Unpack[MapOptions]
    ) -> Generator[Embedding, None, None] | Generator[Embedding | EmbedMQError, None, None]:
        """As `Client.map`, a generator. A synchronous source is asked in the thread that asks for vectors, while it
        does: while the source blocks, vectors that have arrived wait, and while the thread is busy, nothing more is
        sent. Closing the generator, or an exception in the thread, cancels the rest.
        """

        def begin(source: Source) -> Mapped[Embedding | EmbedMQError]:
            return self._client.map(model, source, return_exceptions=return_exceptions, **options)

        return cross(self._start, begin, items)

    def publish_all(
        self, model: str, items: Source, *, max_in_flight: int = 1_024, **options: Unpack[PublishAllOptions]
    ) -> Published:
        """As `Client.publish_all`; a synchronous source is asked in this thread, for up to `max_in_flight` items more
        than can go at once.
        """

        async def publish(source: Source) -> Published:
            return await self._client.publish_all(model, source, max_in_flight=max_in_flight, **options)

        return cross_once(self._start, publish, items, max_in_flight)

    def _wait(self, work: Coroutine[object, object, _R]) -> _R:
        try:
            runner = self._runner
            if runner is None:
                raise RuntimeError(NOT_STARTED)
            return runner.run(work)
        finally:
            if inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
                work.close()  # it never began

    def _start(self, work: Coroutine[object, object, _R]) -> futures.Future[_R]:
        runner = self._runner
        if runner is None:
            work.close()
            raise RuntimeError(NOT_STARTED)
        return runner.start(work)

    def _stop(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.stop()


class _Runner:
    """An event loop on a thread."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._calls: set[futures.Future[Any]] = set()  # of whatever result
        self._stopped = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="embedmq-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[object, object, _R]) -> _R:
        future = self.start(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def start(self, work: Coroutine[object, object, _R]) -> futures.Future[_R]:
        try:
            if os.getpid() != self._pid:
                raise RuntimeError("this client belongs to another process (it was forked): start one of its own here")
            with self._lock:
                if self._stopped:
                    raise RuntimeError(NOT_STARTED)
                future = asyncio.run_coroutine_threadsafe(work, self._loop)
                self._calls.add(future)
        except RuntimeError:
            work.close()
            raise
        future.add_done_callback(self._done)
        return future

    def stop(self) -> None:
        """Once the loop has ended nothing would end a call: each is given time to, then cancelled."""
        with self._lock:
            self._stopped = True
            left = set(self._calls)
        _, left = futures.wait(left, END_TIMEOUT_S)
        for call in left:
            call.cancel()
        asyncio.run_coroutine_threadsafe(self._loop.shutdown_asyncgens(), self._loop).result()  # maps that were left
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _done(self, call: futures.Future[Any]) -> None:
        with self._lock:
            self._calls.discard(call)
