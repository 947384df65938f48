"""How is a call answered whose items do not fit one record, or whose vectors do not fit one reply?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from embedmq_schemas.names import is_id
from embedmq_schemas.requests import Embed
from embedmq_schemas.results import Embedded, Failed, Result

from embedmq.coalesce import can_share, weigh
from embedmq.cutting import cut, cut_again
from embedmq.embeddings import Embeddings
from embedmq.errors import InvalidRequest, RequestFailed
from embedmq.joining import Answer, join
from embedmq.outcome import error_of
from embedmq.requests import encode
from embedmq.routes import Route
from embedmq.session import Session

FRAME_BYTES = 64
"""What the id of a part and the lengths of its arrays add to the record of an empty request."""
FATAL = frozenset({"deadline_exceeded", "cancelled"})
"""Codes of a part that end the whole call."""


async def ask_embed(
    session: Session, route: Route, request: Embed, due: float, *, in_company: bool = False
) -> Embeddings:
    """Ask for vectors of any number of items: by one record if they fit, maybe `in_company` of other calls."""
    count, limits = len(request.items), route.limits
    if in_company and can_share(request, size_bytes := weigh(request.items), limits):
        result = await session.ask_in_company(route, request, size_bytes, due)
    else:
        value = encode(request)
        if count > limits.max_items or len(value) > limits.max_request_bytes:
            return await _in_parts(session, route, request, due)
        result = await session.ask(route, request, value, count, due)
    answer = read(result, count)
    if isinstance(answer, Failed):
        return await _again(session, route, request, answer, due)
    return answer


async def _in_parts(session: Session, route: Route, request: Embed, due: float) -> Embeddings:
    """Cut a request to what fits one record each, send all at once, and join the answers, in order.

    Raises:
        InvalidRequest: one item alone is too large for a record.
    """
    return await _answer(session, route, request, divide(request, route), due)


async def _again(session: Session, route: Route, request: Embed, failed: Failed, due: float) -> Embeddings:
    """Cut a request by what the worker said would have fitted; raises RequestFailed where that is no help."""
    parts = smaller(range(len(request.items)), failed)
    if parts is None:
        raise error_of(failed)
    return await _answer(session, route, request, parts, due)


def read(result: Result, count: int) -> Embeddings | Failed:
    """An answer to a request for vectors; raises RequestFailed for what is none."""
    if isinstance(result, Failed):
        return result
    if not isinstance(result, Embedded) or result.count != count:
        what = f"{result.count} rows for {count} items" if isinstance(result, Embedded) else "scores for vectors"
        raise RequestFailed(f"request {result.id}: broken reply: {what}", result.id)
    return Embeddings.read(result)


def divide(request: Embed, route: Route) -> list[range]:
    """The parts that fit one record each; raises InvalidRequest naming an item too large for any."""
    limits = route.limits
    empty = msgspec.structs.replace(request, items=[], item_ids=None if request.item_ids is None else [])
    space = limits.max_request_bytes - len(encode(empty)) - FRAME_BYTES
    sizes = [len(msgspec.msgpack.encode(item)) for item in request.items]
    for i, size in enumerate(sizes):
        if size > space:
            message = f"items[{i}]: {size} bytes; one request holds {max(0, space)} beside its options"
            raise InvalidRequest(f"{message}: shorten it, or cut it into several items")
    if request.item_ids is not None:
        sizes = [size + len(id.encode()) + 5 for size, id in zip(sizes, request.item_ids, strict=True)]
    return cut(sizes, limits.max_items, space)


def smaller(part: range, failed: Failed) -> list[range] | None:
    """The parts to try after a `too_large` that names what fits; None when it names nothing that helps."""
    if failed.code != "too_large" or failed.fits is None or not 1 <= failed.fits < len(part):
        return None
    return cut_again(part, failed.fits)


async def _answer(session: Session, route: Route, request: Embed, parts: Sequence[range], due: float) -> Embeddings:
    id = request.id or ""
    return join(id, await _ask_all(session, route, request, id, parts, due), request.item_ids)


async def _ask_all(
    session: Session, route: Route, request: Embed, id: str, parts: Sequence[range], due: float
) -> list[Answer]:
    """Ask for all parts at once; the first that raises ends the others."""
    tasks: list[asyncio.Task[list[Answer]]] = []
    try:
        async with asyncio.TaskGroup() as group:
            for k, part in enumerate(parts):
                tasks.append(group.create_task(_ask(session, route, request, f"{id}.{k}", part, due)))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [answer for task in tasks for answer in task.result()]


async def _ask(session: Session, route: Route, request: Embed, id: str, items: range, due: float) -> list[Answer]:
    if not is_id(id):
        raise InvalidRequest(f"id: {request.id} is too long: its parts are numbered ({id})")
    part = msgspec.structs.replace(
        request,
        id=id,
        items=request.items[items.start : items.stop],
        item_ids=None if request.item_ids is None else request.item_ids[items.start : items.stop],
    )
    result = read(await session.ask(route, part, encode(part), len(items), due, request.id), len(items))
    if isinstance(result, Failed):
        if result.code in FATAL:
            raise error_of(result)
        if (parts := smaller(items, result)) is not None:
            return await _ask_all(session, route, request, id, parts, due)
    return [Answer(items, result)]
