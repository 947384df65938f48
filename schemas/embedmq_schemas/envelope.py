"""Whose request is this record, for which model, and where does its answer go?"""

from __future__ import annotations

import msgspec

from embedmq_schemas import headers as h
from embedmq_schemas.codec import Codec, Undecodable, decode_request, detect
from embedmq_schemas.codes import Code
from embedmq_schemas.journey import FRESH, Journey
from embedmq_schemas.journey import read as read_journey
from embedmq_schemas.limits import MAX_ATTEMPTS
from embedmq_schemas.names import ID_LENGTH, Names, is_id, is_model_name, is_topic
from embedmq_schemas.requests import Lane, Reply, Request, StreamReply, TopicReply
from embedmq_schemas.salvage import Address, salvage


class Record(msgspec.Struct, frozen=True, gc=False):
    """One Kafka record, as far as it decides anything. `timestamp_ms` is Kafka's."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: h.Headers


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """All that an answer needs, even to a request that cannot be read."""

    id: str
    model: str
    lane: Lane
    codec: Codec
    reply: Reply | None
    keep_s: int | None
    tenant: str
    meta: dict[str, str] | None
    item_ids: list[str] | None
    journey: Journey = FRESH


class Refusal(msgspec.Struct, frozen=True):
    """Why a record is no request, with what could be salvaged to answer it."""

    envelope: Envelope
    code: Code
    message: str


def open_record(record: Record, names: Names, max_request_bytes: int) -> tuple[Envelope, Request] | Refusal:
    """Decode a record and derive what it leaves out (id, model, reply) from its headers, topic, key and place."""
    value, found = record.value, h.find(record.headers)
    content_type = found.get(h.CONTENT_TYPE)
    if value is None:
        return _refuse(
            record, names, found, Address(), detect(content_type, b""), "malformed", "the record's value is null"
        )
    codec = detect(content_type, value)
    if len(value) > max_request_bytes:
        message = f"{len(value)} bytes exceed the {max_request_bytes} that one request may hold: send fewer items"
        return _refuse(record, names, found, salvage(value, codec), codec, "too_large", message)
    try:
        request = decode_request(value, codec)
    except Undecodable as error:
        return _refuse(record, names, found, salvage(value, codec), codec, error.code, error.message)
    envelope, fault = _derive(record, names, found, request, codec)
    if h.REPLAYED in found and request.deadline_unix_ms is not None:
        request = msgspec.structs.replace(request, deadline_unix_ms=None)
    return Refusal(envelope, *fault) if fault else (envelope, request)


def _refuse(
    record: Record, names: Names, found: h.Found, stated: Request | Address, codec: Codec, code: Code, message: str
) -> Refusal:
    envelope, _ = _derive(record, names, found, stated, codec)
    return Refusal(envelope, code, message)


def _derive(
    record: Record, names: Names, found: h.Found, stated: Request | Address, codec: Codec
) -> tuple[Envelope, tuple[Code, str] | None]:
    """Complete a request's address as far as possible; a contradiction in it is returned as code and message."""
    own, lane = names.parse(record.topic) or (None, h.lane(found) or "interactive")
    tried = own is None and names.is_retry(record.topic)
    if tried and (frozen := h.text(found, h.MODEL)) is not None and is_model_name(frozen):
        own = frozen
    id, id_fault = _derive_id(record, found, stated.id)
    model, model_fault = _derive_model(record, own, stated.model)
    reply, reply_fault = _derive_reply(found, stated.reply)
    keep_s = stated.keep_s
    if codec == "text" and keep_s is None:
        keep_s = h.number(found, h.KEEP_S)
    envelope = Envelope(
        id=id,
        model=model,
        lane=lane,
        codec=codec,
        reply=reply,
        keep_s=keep_s,
        tenant=stated.tenant or h.text(found, h.TENANT) or "",
        meta=stated.meta,
        item_ids=stated.item_ids,
        journey=read_journey(found, MAX_ATTEMPTS) if tried else FRESH,
    )
    return envelope, id_fault or model_fault or reply_fault


def _derive_id(record: Record, found: h.Found, stated: str | None) -> tuple[str, tuple[Code, str] | None]:
    """The frozen id, the stated one, CloudEvents' one, else the record's place, which is unique in one cluster (of a
    long topic's name only as much as an id can hold).
    """
    chosen = h.text(found, h.ID) or stated or h.text(found, h.CE_ID)
    if chosen and is_id(chosen):
        return chosen, None
    place = f"{record.topic}-{record.partition}-{record.offset}-{record.timestamp_ms}"[-ID_LENGTH:]
    return place, ("malformed", "`id` must match [A-Za-z0-9._:/-]{1,128}") if chosen else None


def _derive_model(record: Record, own: str | None, stated: str | None) -> tuple[str, tuple[Code, str] | None]:
    """The model of the topic, where a contrary `model` is refused, since topic ACLs guard models; else the stated
    one; else the record's key. What a worker froze on a record that is tried again counts as the topic's.
    """
    if own is not None:
        if stated and stated != own:
            return own, ("malformed", f"`model` contradicts the topic {record.topic}, which belongs to {own}")
        return own, None
    try:
        name = stated or (record.key or b"").decode()
    except UnicodeDecodeError:
        name = ""
    if not is_model_name(name):
        return "", ("unknown_model", "name the model in `model` or as the record's key: lower case, digits, dashes")
    return name, None


def _derive_reply(found: h.Found, stated: Reply | None) -> tuple[Reply | None, tuple[Code, str] | None]:
    """The stated reply, else that of Spring's headers."""
    if isinstance(stated, StreamReply):
        if is_id(stated.client):
            return stated, None
        return None, ("malformed", "`reply.client` must match [A-Za-z0-9._:/-]{1,128}")
    topic = h.text(found, h.REPLY_TOPIC)
    reply = stated or (TopicReply(topic=topic, partition=h.reply_partition(found)) if topic else None)
    if reply is None or is_topic(reply.topic):
        return reply, None
    return None, ("malformed", "the reply topic's name must match [A-Za-z0-9._-]{1,249}")
