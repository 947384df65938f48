"""Where does a model's request go, and how large may it be?"""

from __future__ import annotations

import asyncio
import logging

import msgspec
from embedmq_schemas.catalogue import ModelEntry, decode_model
from embedmq_schemas.limits import Limits
from embedmq_schemas.names import Names
from embedmq_schemas.requests import Lane
from msgspec import Struct

from embedmq.errors import EmbedMQError, InvalidRequest, RequestCancelled, Unavailable
from embedmq.kafka import GRANT
from embedmq.publisher import Publisher
from embedmq.store import Store

FRESH_S = 60.0
"""How long what the catalogue said is believed."""
UNSEEN_S, ANNOUNCED_S, LOOK_AGAIN_S = 0.3, 3.0, 0.1
"""How long a topic may take to be seen: one that nobody announced, one that the catalogue announces."""
RETRY_S = 5.0
"""How soon a refresh that failed is tried again."""

_LOG = logging.getLogger(__name__)


class Route(Struct):
    """Topic, key and limits for one model and lane; good until the loop's time `until`."""

    topic: str
    key: bytes | None
    limits: Limits
    until: float


class Routes:
    """Finds routes in the workers' catalogue and remembers them. One that grows old is used while it is asked again,
    so that only the first request to a model waits.
    """

    def __init__(self, names: Names, publisher: Publisher, store: Store | None) -> None:
        self._names = names
        self._publisher = publisher
        self._store = store
        self._known: dict[tuple[str, Lane], Route] = {}
        self._asking: dict[tuple[str, Lane], asyncio.Task[Route]] = {}

    def known(self, model: str, lane: Lane, now: float) -> Route | None:
        """The remembered route."""
        route = self._known.get((model, lane))
        if route is not None and now >= route.until:
            route.until = now + RETRY_S
            _ = self._ask(model, lane)
        return route

    async def find(self, model: str, lane: Lane) -> Route:
        """Ask the catalogue, then Kafka; raises InvalidRequest for a model that neither knows, Unavailable."""
        asking = self._ask(model, lane)
        await asyncio.wait({asking})
        if asking.cancelled():
            raise RequestCancelled(f"{model}: the client was closed")
        return asking.result()

    async def explicit(self, topic: str) -> Route:
        """A route that the caller names."""
        if not await self._prepare(topic, UNSEEN_S):
            raise InvalidRequest(f"topic: {topic} is not there, or we may not see it: topics are not created from here")
        return Route(topic, None, Limits(), 0.0)

    async def stop(self) -> None:
        """End what is being asked."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _ask(self, model: str, lane: Lane) -> asyncio.Task[Route]:
        place = (model, lane)
        task = self._asking.get(place)
        if task is None:
            task = self._asking[place] = asyncio.create_task(self._resolve(model, lane))
            task.add_done_callback(lambda done: self._answered(place, done))
        return task

    def _answered(self, place: tuple[str, Lane], done: asyncio.Task[Route]) -> None:
        del self._asking[place]
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            self._known[place] = done.result()
        elif isinstance(error, InvalidRequest):
            self._known.pop(place, None)
        else:
            _LOG.info("could not ask where %s is served: %s", place[0], error)

    async def _resolve(self, model: str, lane: Lane) -> Route:
        entry, failure = await self._entry(model)
        shared = entry is not None and entry.shared
        topic = self._names.shared(lane) if shared else self._names.requests(model, lane)
        if await self._prepare(topic, UNSEEN_S if entry is None else ANNOUNCED_S):
            limits = Limits() if entry is None else entry.limits
            until = asyncio.get_running_loop().time() + FRESH_S
            return Route(topic, model.encode() if shared else None, limits, until)
        raise failure or await self._unknown(model, topic, entry)

    async def _prepare(self, topic: str, patience_s: float) -> bool:
        """Look for a topic; a new one is not known to every broker at once."""
        for _ in range(round(patience_s / LOOK_AGAIN_S)):
            if await self._publisher.prepare(topic):
                return True
            await asyncio.sleep(LOOK_AGAIN_S)
        return await self._publisher.prepare(topic)

    async def _entry(self, model: str) -> tuple[ModelEntry | None, Unavailable | None]:
        if self._store is None:
            return None, None
        try:
            value = await self._store.get(self._names.model(model))
            return None if value is None else decode_model(value), None
        except Unavailable as error:
            return None, error
        except msgspec.MsgspecError as error:
            _LOG.warning("the catalogue's entry of %s cannot be read: %s", model, error)
            return None, None

    async def _unknown(self, model: str, topic: str, entry: ModelEntry | None) -> EmbedMQError:
        if entry is not None:
            return InvalidRequest(
                f"model: {model} is served, but topic {topic} is missing, or we may not Write to it: "
                f"embedmq topics create {model}, or {GRANT}"
            )
        if self._store is None:
            return InvalidRequest(
                f"model: {model} has no topic {topic}, and without Redis no other is known: pass topic="
            )
        served = ", ".join(sorted(await self._store.find(self._names.model("")))) or "none: no worker runs"
        return InvalidRequest(f"model: {model} is not served; these are: {served}")
