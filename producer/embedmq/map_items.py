"""How does a program get vectors for more items than it could hold?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Self, TypeVar, Unpack

from embedmq_schemas.codes import find
from embedmq_schemas.requests import Embed, Lane
from msgspec import Struct

from embedmq.embeddings import Embedding, Embeddings
from embedmq.errors import EmbedMQError, RequestCancelled, RequestFailed
from embedmq.flow import Run, flow
from embedmq.packing import Packed, fill, packer_for, record_items
from embedmq.parts import ask_embed
from embedmq.requests import EmbedOptions, build_embed
from embedmq.session import Session
from embedmq.source import Source, check_no_item_ids, check_source
from embedmq.window import Slot, Window

T = TypeVar("T")


class MapOptions(EmbedOptions, total=False):
    """What may be asked of `map`."""

    max_in_flight: int
    ordered: bool
    lane: Lane
    timeout_s: float | None


class Course(Struct, frozen=True):
    """How a map goes."""

    max_in_flight: int
    ordered: bool
    return_exceptions: bool
    lane: Lane
    timeout_s: float | None


class Mapped(AsyncIterator[T]):
    """What came out of a map, one item at a time; closing it cancels the rest."""

    def __init__(self, runs: AsyncGenerator[Run[T], None], max_in_flight: int) -> None:
        self.runs = runs
        """The same, as it comes out."""
        self.max_in_flight = max_in_flight
        self._values: Iterator[T] = iter(())
        self._cut = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while True:
            for value in self._values:
                return value
            if self._cut:
                raise RequestCancelled(
                    "this map has ended: a wait for what comes next was cancelled, or had a time limit"
                )
            try:
                self._values = iter((await anext(self.runs)).values)
            except asyncio.CancelledError:  # it ends the generator, whose next word would be that all is done
                self._cut = True
                raise

    async def aclose(self) -> None:
        """Cancel what is on its way, also for the workers, and close the source if it is a generator."""
        self._values = iter(())
        await self.runs.aclose()


def map_items(
    session: Session, model: str, source: Source, course: Course, **options: Unpack[EmbedOptions]
) -> Mapped[Embedding | EmbedMQError]:
    """The vectors of each item; raises InvalidRequest, Unavailable at once where that can be known."""
    session.check_streaming()
    check_source(source)
    _ = record_items(course.max_in_flight)
    check_no_item_ids(options)
    template = build_embed(model, [""], id=session.client, timeout_s=course.timeout_s, reply=session.reply, **options)
    return Mapped(_map(session, template, source, course), course.max_in_flight)


async def _map(
    session: Session, template: Embed, source: Source, course: Course
) -> AsyncGenerator[Run[Embedding | EmbedMQError], None]:
    model = template.model or ""
    revision = ""

    async def ask(packed: Packed) -> Embeddings:
        session.check_streaming()
        due = session.due(model, course.lane, course.timeout_s)
        route = await session.route(model, course.lane, due=due)
        request = fill(template, packed, session.next_id(), course.timeout_s)
        return await ask_embed(session, route, request, due)

    route = await session.route(model, course.lane, due=session.due(model, course.lane, course.timeout_s))
    packer = packer_for(template, route.limits, record_items(course.max_in_flight))
    window: Window[Embeddings] = Window(course.max_in_flight, packer.max_items, ordered=course.ordered)
    async with aclosing(flow(source, packer, window, ask)) as slots:
        async for slot in slots:
            if isinstance(slot.outcome, Embeddings):
                revision = same_revision(revision, slot.outcome)
            values = read(slot)
            for i, value in enumerate(values):
                if isinstance(value, EmbedMQError) and not course.return_exceptions:
                    if i:  # asked again for the error alone, a client that is closed by then would say another
                        yield Run(i, values[:i])
                    raise value
            yield Run(len(values), values)


def same_revision(revision: str, answer: Embeddings) -> str:
    """The one revision of a map; raises RequestFailed where an answer is by another than those before it."""
    if revision and answer.revision != revision:
        message = f"request {answer.id}: computed by revision {answer.revision}, what came before by {revision}"
        raise RequestFailed(
            f"{message}, which cannot be compared: map again, or name the revision", answer.id, retryable=True
        )
    return answer.revision


def read(slot: Slot[Embeddings]) -> list[Embedding | EmbedMQError]:
    """What came out for each item of a record; raises what is no failure of a request."""
    packed, outcome = slot.packed, slot.outcome
    if isinstance(outcome, Embeddings):
        if not outcome.failures:
            return list(outcome[:])
        return [each if each.failure is None else _failure(packed, i, outcome) for i, each in enumerate(outcome[:])]
    if not isinstance(outcome, EmbedMQError):
        raise outcome or RuntimeError("a record came out without an outcome")
    if not packed.items:  # an entry that is no item
        return [outcome]
    return [_named(packed, i, outcome) for i in range(len(packed.items))]


def _failure(packed: Packed, i: int, answer: Embeddings) -> EmbedMQError:
    """One item of an answer that failed."""
    failure = answer.failures[i]
    facts = find(failure.code)  # None for a code of a later version
    message = f"request {answer.id} failed: {failure.code}: {failure.message}"
    return _named(packed, i, RequestFailed(message, answer.id, failure.code, facts is not None and facts.retryable))


def _named(packed: Packed, i: int, error: EmbedMQError) -> EmbedMQError:
    """A copy of an error that says which item it is about: each has its own traceback."""
    named = type(error)(f"{packed.place(i)}: {error}", *error.args[1:])
    named.index = packed.first + i
    named.item_id = None if packed.item_ids is None else packed.item_ids[i]
    return named
