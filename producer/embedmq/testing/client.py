"""How does a test ask for vectors without Kafka, Redis and workers?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Self, Unpack

from embedmq_schemas.requests import Request

from embedmq.client import Client
from embedmq.settings import Settings, Setup
from embedmq.sync import SyncClient
from embedmq.testing.calls import notes_calls
from embedmq.testing.fleet import FakeFleet
from embedmq.testing.model import FakeModel
from embedmq.testing.scripted import Scripted
from embedmq.testing.session import FakeSession

KAFKA, REDIS = "127.0.0.1:9092", "redis://127.0.0.1:6379"
"""Addresses that nobody connects to."""
HELD_TIMEOUT_S = 5.0

Models = Mapping[str, int | FakeModel]


@notes_calls(Client)
class FakeClient(Scripted, Client):
    """A `Client` whose requests a fleet in memory answers: methods, checks and errors are the real ones, vectors the
    same everywhere, and similar where texts share words.

        async with FakeClient(models={"minilm": 384, "ranker": FakeModel(scores=True)}) as fake:
            fake.fail("minilm", code="model_unavailable", times=1)
            ...
            assert fake.calls[0].items == ["a cat"]

    What was kept stays in its `fleet` when it ends, for when it is started again and for other fakes of that fleet.
    """

    def __init__(
        self,
        kafka: str = KAFKA,
        redis: str | None = REDIS,
        *,
        models: Models | None = None,
        clock: Callable[[], float] = time.time,
        fleet: FakeFleet | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        """`models` and `clock` (in seconds, for what is kept) as for `FakeFleet`, or a `fleet` that several share; the
        rest as for `Client`: `redis=None` leaves `publish` only. Raises ValueError.
        """
        super().__init__(kafka, redis, **settings)
        self.fleet = FakeFleet(models, clock) if fleet is None else fleet

    def _prepare(self, setup: Setup) -> None:
        super()._prepare(setup)
        self.fleet = FakeFleet()

    def _new_session(self) -> FakeSession:
        """Nothing is connected to."""
        return FakeSession(self.setup, self.fleet)

    async def wait_held(self, count: int = 1, timeout_s: float = HELD_TIMEOUT_S) -> list[Request]:
        """Wait until `count` requests are held, as those of calls that run beside the test; raises TimeoutError."""
        return await asyncio.to_thread(self.fleet.wait_held, count, timeout_s)


@notes_calls(SyncClient)
class FakeSyncClient(Scripted, SyncClient):
    """The same for code without an event loop."""

    def __init__(
        self,
        kafka: str = KAFKA,
        redis: str | None = REDIS,
        *,
        models: Models | None = None,
        clock: Callable[[], float] = time.time,
        fleet: FakeFleet | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        """As `FakeClient`."""
        super().__init__(kafka, redis, **settings)
        self.fleet = FakeFleet(models, clock) if fleet is None else fleet
        self._client = FakeClient(kafka, redis, fleet=self.fleet, **settings)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """As `SyncClient.from_env`."""
        client = super().from_env(environ)
        own = FakeClient.of(client._client.setup)
        client._client, client.fleet = own, own.fleet
        return client

    def wait_held(self, count: int = 1, timeout_s: float = HELD_TIMEOUT_S) -> list[Request]:
        """As `FakeClient.wait_held`."""
        return self.fleet.wait_held(count, timeout_s)
