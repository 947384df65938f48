"""One way to script the real client's world and the fake's, so that one test serves both."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from embedmq.source import Source
from embedmq.testing import FakeClient, FakeSyncClient
from embedmq_schemas.codes import Code

from tests.producer.standin import Request, StandIn, embedded, failed

BAD = "a bad text"


class World(Protocol):
    """A client, and what becomes of its requests to `minilm`, whose vectors are `WIDTH` wide."""

    mq: Any

    def hold(self) -> None: ...
    def fail(self, code: Code) -> None: ...
    def fail_bad_texts(self) -> None: ...
    def heal(self) -> None: ...
    async def arrived(self, count: int) -> None: ...
    async def release(self) -> None: ...
    async def mapped(self, items: Source, **options: Any) -> list[Any]: ...


class Real:
    """A client on Kafka and Redis, with a stand-in for the worker."""

    def __init__(self, mq: Any, standin: StandIn) -> None:
        self.mq = mq
        self._standin = standin
        self._held: list[Request] = []

    def hold(self) -> None:
        self._standin.answer = self._held.append

    def fail(self, code: Code) -> None:
        self._standin.answer = lambda request: failed(request, code)

    def fail_bad_texts(self) -> None:
        def answer(request: Request) -> Any:
            bad = [i for i, item in enumerate(request["items"]) if item == BAD]
            return embedded(request, failures=[{"index": i, "code": "too_long", "message": "bad"} for i in bad])

        self._standin.answer = answer

    def heal(self) -> None:
        self._standin.answer = embedded

    async def arrived(self, count: int) -> None:
        await self._standin.wait_for(len(self._standin.requests) - len(self._held) + count)

    async def release(self) -> None:
        self.heal()
        await self._standin.reply(*[(request, embedded(request)) for request in self._held])
        self._held.clear()

    async def mapped(self, items: Source, **options: Any) -> list[Any]:
        return [each async for each in self.mq.map("minilm", items, **options)]


class Fake:
    """A fake client, of either kind."""

    def __init__(self, mq: Any, fake: FakeClient | FakeSyncClient) -> None:
        self.mq = mq
        self._fake = fake

    def hold(self) -> None:
        self._fake.hold()

    def fail(self, code: Code) -> None:
        self._fake.fail("minilm", code=code)

    def fail_bad_texts(self) -> None:
        self._fake.fail(code="too_long", message="bad", items=lambda item: item == BAD)

    def heal(self) -> None:
        self._fake.heal()

    async def arrived(self, count: int) -> None:
        await asyncio.to_thread(self._fake.fleet.wait_held, count, 5)

    async def release(self) -> None:
        self._fake.release()

    async def mapped(self, items: Source, **options: Any) -> list[Any]:
        fake = self._fake
        if isinstance(fake, FakeSyncClient):
            return await asyncio.to_thread(lambda: list(fake.map("minilm", items, **options)))
        return [each async for each in fake.map("minilm", items, **options)]
