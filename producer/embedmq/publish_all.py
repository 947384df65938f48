"""How do more items get into Kafka than a program could hold?"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import aclosing
from typing import Unpack

from embedmq_schemas.names import is_id
from embedmq_schemas.requests import Embed, Lane, TopicReply
from msgspec import Struct

from embedmq.errors import EmbedMQError, InvalidRequest
from embedmq.flow import flow
from embedmq.packing import Packed, check_items, fill, packer_for, record_items
from embedmq.requests import EmbedOptions, build_embed, encode
from embedmq.session import Session
from embedmq.source import Source, check_no_item_ids, check_source
from embedmq.validation import check_reply_topic
from embedmq.window import Window

LAST_RECORD = 10**12
"""More records than anybody publishes: their numbers are part of their ids, which have a longest length."""


class Published(Struct, frozen=True):
    """What Kafka has for good: the first `items` items of the input, in `records` requests."""

    id: str
    records: int
    items: int

    @property
    def ids(self) -> Iterator[str]:
        """The ids of the requests, in the order of their items: `<id>.0`, `<id>.1`, …"""
        return (f"{self.id}.{number}" for number in range(self.records))


class PublishAllOptions(EmbedOptions, total=False):
    """What may be asked of `publish_all`, beside how much may be in flight."""

    reply_topic: str | None
    keep_s: int | None
    topic: str | None
    lane: Lane
    timeout_s: float | None
    id: str | None
    encoding: str
    max_record_items: int


class Posting(Struct, frozen=True):
    """How items are published."""

    reply_topic: str | None
    keep_s: int | None
    topic: str | None
    lane: Lane
    timeout_s: float | None
    id: str | None
    encoding: str
    max_in_flight: int
    max_record_items: int


async def publish_all(
    session: Session, model: str, source: Source, posting: Posting, **options: Unpack[EmbedOptions]
) -> Published:
    """Publish all items and wait until Kafka has them; the errors say how far it came.

    Raises:
        InvalidRequest, Unavailable, and what the source raises.
    """
    if posting.reply_topic is not None:
        check_reply_topic(posting.reply_topic, session.names)
    template = _template(model, posting, options)
    check_source(source)
    check_items("max_record_items", posting.max_record_items)
    most = min(posting.max_record_items, record_items(posting.max_in_flight))
    route = await session.route(model, posting.lane, posting.topic)
    so_far = Published(template.id or "", 0, 0)

    async def publish(packed: Packed) -> None:
        request = fill(template, packed, f"{so_far.id}.{packed.number}", posting.timeout_s)
        if request.keep_s and session.kept is not None:
            await session.kept.expect(request.id or "", request.keep_s, request.deadline_unix_ms)
        await session.publish(route, request, encode(request), len(packed.items))

    packer = packer_for(template, route.limits, most)
    window: Window[None] = Window(posting.max_in_flight, packer.max_items, ordered=True)
    try:
        async with aclosing(flow(source, packer, window, publish)) as slots:
            async for slot in slots:
                if isinstance(slot.outcome, Exception):
                    raise slot.outcome
                so_far = Published(so_far.id, so_far.records + 1, so_far.items + len(slot.packed.items))
    except Exception as error:  # also of the source
        _tell(error, so_far)
        raise
    return so_far


def _template(model: str, posting: Posting, options: EmbedOptions) -> Embed:
    """What all requests have in common."""
    if posting.reply_topic is None and posting.keep_s is None:
        raise InvalidRequest("publish_all: say where the answers go: reply_topic=, keep_s= (0 for nowhere), or both")
    check_no_item_ids(options)
    template = build_embed(
        model,
        [""],
        id=str(uuid.uuid4()) if posting.id is None else posting.id,
        timeout_s=posting.timeout_s,
        reply=None if posting.reply_topic is None else TopicReply(posting.reply_topic),
        keep_s=posting.keep_s,
        encoding=posting.encoding,
        **options,
    )
    if not is_id(f"{template.id}.{LAST_RECORD}"):
        raise InvalidRequest(f"id: {template.id} is too long: its records are numbered ({template.id}.0)")
    return template


def _tell(error: Exception, so_far: Published) -> None:
    """Say how far it came: where to go on, and by which ids to ask."""
    ids = f" as {so_far.id}.0 to {so_far.id}.{so_far.records - 1}" if so_far.records else ""
    reached = f"Kafka has the first {so_far.items} items{ids}; it may have some of the next ones"
    if isinstance(error, EmbedMQError):
        error.args = (f"{error} ({reached})", *error.args[1:])
    else:
        error.add_note(reached)
