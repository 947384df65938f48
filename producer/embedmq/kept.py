"""How is a kept result fetched by its id, from anywhere?"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

import msgspec
from embedmq_schemas.codec import Undecodable, decode_result
from embedmq_schemas.names import Names
from embedmq_schemas.results import Result
from embedmq_schemas.stub import STUB_MARGIN_S, Stub, decode_stub, encode_stub
from msgspec import Struct

from embedmq.errors import (
    DeadlineExceeded,
    EmbedMQError,
    RequestCancelled,
    RequestFailed,
    ResultExpired,
    StillPending,
    Unavailable,
    UnknownRequest,
)
from embedmq.store import Store

FIRST_PAUSE_S, LAST_PAUSE_S, PAUSE_GROWTH = 0.005, 0.1, 1.5
IDS_PER_LOOK = 128
LOOK_LIMIT_S, LOOK_GRACE_S = 1.0, 0.3
"""How long Redis may take to answer: a second for a caller who does not wait, else little longer than the caller."""
DEADLINE_GRACE_S = 5.0
"""How long after a deadline a result may still come that was on the device in time."""


class Ticket(Struct, frozen=True):
    """A request that Kafka has for good; who knows its id can fetch the result."""

    id: str


class Verdict(Struct, frozen=True):
    """What is known of an id; `final` when waiting cannot change it."""

    answer: Result | EmbedMQError
    final: bool


class _Waiter(Struct):
    id: str
    until: float
    future: asyncio.Future[Result]


class Kept:
    """Fetches kept results: one MGET for all ids that this process waits for, repeated while anybody waits.

    Polling, because a result that anybody may fetch has no one to be sent to; the pauses grow from 5 to 100 ms, so that
    a thousand waiting calls cost Redis ten commands a second.
    """

    def __init__(self, store: Store, names: Names) -> None:
        self._store = store
        self._names = names
        self._waiting: list[_Waiter] = []
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def expect(self, id: str, keep_s: int, deadline_unix_ms: int | None) -> None:
        """Leave a stub before the request is published; raises Unavailable."""
        stub = Stub(submitted_unix_ms=int(time.time() * 1000), keep_s=keep_s, deadline_unix_ms=deadline_unix_ms)
        await self._store.put(self._names.stub(id), encode_stub(stub), keep_s + STUB_MARGIN_S)

    async def fetch(self, id: str, wait_s: float) -> Result:
        """The result of `id`, waiting for it at most `wait_s`; raises one of the five other answers, or Unavailable."""
        loop = asyncio.get_running_loop()
        waiter = _Waiter(id, loop.time() + wait_s, loop.create_future())
        self._waiting.append(waiter)
        self._arrived.set()
        if self._task is None:
            self._task = loop.create_task(self._look_until_nobody_waits())
        try:
            async with asyncio.timeout(max(LOOK_LIMIT_S, wait_s + LOOK_GRACE_S)):
                return await waiter.future
        except TimeoutError as error:
            if isinstance(error, EmbedMQError):  # what was found, not the limit
                raise
            message = f"request {id}: Redis does not answer: check EMBEDMQ_REDIS and that it runs"
            raise Unavailable(message) from None

    async def stop(self) -> None:
        """End the waits."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _look_until_nobody_waits(self) -> None:
        pause_s = FIRST_PAUSE_S
        try:
            while self._waiting:
                if self._arrived.is_set():
                    self._arrived.clear()
                    pause_s = FIRST_PAUSE_S
                await self._look()
                self._waiting = [waiter for waiter in self._waiting if not waiter.future.done()]
                if self._waiting:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._arrived.wait(), pause_s)
                    pause_s = min(pause_s * PAUSE_GROWTH, LAST_PAUSE_S)
        finally:
            self._task = None
            for waiter in self._waiting:
                if not waiter.future.done():
                    waiter.future.set_exception(RequestCancelled(f"request {waiter.id}: the client was closed"))

    async def _look(self) -> None:
        ids = sorted({waiter.id for waiter in self._waiting if not waiter.future.done()})
        verdicts: dict[str, Verdict] = {}
        for start in range(0, len(ids), IDS_PER_LOOK):
            part = ids[start : start + IDS_PER_LOOK]
            try:
                verdicts |= await self._judge_all(part)
            except Unavailable as error:
                verdicts |= dict.fromkeys(part, Verdict(error, final=False))
        now = asyncio.get_running_loop().time()
        for waiter in self._waiting:
            verdict = verdicts.get(waiter.id)  # None for one that came during the look
            if verdict is None or waiter.future.done() or not (verdict.final or now >= waiter.until):
                continue
            if isinstance(verdict.answer, EmbedMQError):
                waiter.future.set_exception(type(verdict.answer)(*verdict.answer.args))
            else:
                waiter.future.set_result(verdict.answer)

    async def _judge_all(self, ids: Sequence[str]) -> dict[str, Verdict]:
        keys = [key for id in ids for key in (self._names.result(id), self._names.stub(id))]
        values = await self._store.get_all(keys)
        now_ms = int(time.time() * 1000)
        pairs = zip(values[::2], values[1::2], strict=True)
        return {id: judge(id, value, stub, now_ms) for id, (value, stub) in zip(ids, pairs, strict=True)}


def read_stub(value: bytes) -> Stub:
    """What a stub says; one that cannot be read says only that it is there."""
    try:
        return decode_stub(value)
    except msgspec.MsgspecError:
        return Stub()


def judge(id: str, value: bytes | None, stub: bytes | None, now_unix_ms: int) -> Verdict:
    """Decide what a result key and a stub key, read at one moment, say of a request."""
    if value is not None:
        try:
            return Verdict(decode_result(value), final=True)
        except Undecodable as error:
            return Verdict(RequestFailed(f"request {id}: its kept result cannot be read: {error}", id), final=True)
    if stub is None:
        return Verdict(UnknownRequest(f"request {id}: nothing is known of it: check the id"), final=False)
    known = read_stub(stub)
    if known.state == "cancelled":
        return Verdict(RequestCancelled(f"request {id} was cancelled"), final=True)
    if known.state == "completed":
        return Verdict(ResultExpired(f"request {id}: its result was kept for its keep_s and is gone"), final=True)
    deadline = known.deadline_unix_ms
    if deadline is None or now_unix_ms <= deadline:
        return Verdict(StillPending(f"request {id} is not finished: ask again, or wait longer (wait_s)"), final=False)
    late = DeadlineExceeded(f"request {id}: no result within its time limit")
    return Verdict(late, final=now_unix_ms > deadline + 1000 * DEADLINE_GRACE_S)
