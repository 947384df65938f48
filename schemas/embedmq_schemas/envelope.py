"""Whose request is this record, for which model, and where does its answer go?"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from embedmq_schemas import headers as h
from embedmq_schemas.codec import Codec, Undecodable, decode_request, detect
from embedmq_schemas.codes import Code
from embedmq_schemas.names import Names, is_id, is_model_name
from embedmq_schemas.requests import Lane, Reply, Request, StreamReply, TopicReply

_T = TypeVar("_T")


class Record(msgspec.Struct, frozen=True):
    """One Kafka record, as far as it decides anything. `timestamp_ms` is Kafka's."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: h.Headers


class Envelope(msgspec.Struct, frozen=True):
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


class Refusal(msgspec.Struct, frozen=True):
    """Why a record is no request, with what could be salvaged to answer it."""

    envelope: Envelope
    code: Code
    message: str


class _Salvage(msgspec.Struct):
    """The address fields of a broken request, of whatever type they are."""

    id: object = None
    model: object = None
    reply: object = None
    keep_s: object = None
    tenant: object = None
    meta: object = None
    item_ids: object = None


class _Address(msgspec.Struct, frozen=True):
    id: str | None = None
    model: str | None = None
    reply: Reply | None = None
    keep_s: int | None = None
    tenant: str | None = None
    meta: dict[str, str] | None = None
    item_ids: list[str] | None = None


_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def open_record(record: Record, names: Names, max_request_bytes: int) -> tuple[Envelope, Request] | Refusal:
    """Decode a record and derive what it leaves out (id, model, reply) from its headers, topic, key and place."""
    value = record.value
    if value is None:
        return _refuse(record, names, _Address(), "msgpack", "malformed", "the record's value is null")
    codec = detect(h.last(record.headers, h.CONTENT_TYPE), value)
    if len(value) > max_request_bytes:
        message = f"{len(value)} bytes exceed the {max_request_bytes} that one request may hold: send fewer items"
        return _refuse(record, names, _Address(), codec, "too_large", message)
    try:
        request = decode_request(value, codec)
    except Undecodable as error:
        return _refuse(record, names, salvage(value, codec), codec, error.code, error.message)
    envelope = _address(record, names, request, codec)
    if isinstance(envelope, tuple):
        return _refuse(record, names, request, codec, *envelope)
    return envelope, request


def salvage(value: bytes, codec: Codec) -> _Address:
    """Read what can be read of a broken request's address: a wrong field costs only itself."""
    if codec == "text":
        return _Address()
    decode = msgspec.msgpack.decode if codec == "msgpack" else msgspec.json.decode
    try:
        found = decode(value, type=_Salvage)
    except _UNREADABLE:
        return _Address()
    return _Address(
        id=found.id if isinstance(found.id, str) else None,
        model=found.model if isinstance(found.model, str) else None,
        reply=_salvage_reply(found.reply),
        keep_s=found.keep_s if type(found.keep_s) is int else None,
        tenant=found.tenant if isinstance(found.tenant, str) else None,
        meta=_convert(found.meta, dict[str, str]),
        item_ids=_convert(found.item_ids, list[str]),
    )


def _salvage_reply(found: object) -> Reply | None:
    return _convert(found, TopicReply) or _convert(found, StreamReply)


def _convert(found: object, kind: type[_T]) -> _T | None:
    try:
        return msgspec.convert(found, kind)
    except msgspec.ValidationError:
        return None


def _address(record: Record, names: Names, stated: Request | _Address, codec: Codec) -> Envelope | tuple[Code, str]:
    """Complete a request's address; a contradiction is returned as code and message."""
    envelope, fault = _derive(record, names, stated, codec)
    return fault or envelope


def _refuse(
    record: Record, names: Names, stated: Request | _Address, codec: Codec, code: Code, message: str
) -> Refusal:
    envelope, _ = _derive(record, names, stated, codec)
    return Refusal(envelope, code, message)


def _derive(
    record: Record, names: Names, stated: Request | _Address, codec: Codec
) -> tuple[Envelope, tuple[Code, str] | None]:
    headers = record.headers
    own, topic_lane = names.parse(record.topic) or (None, "interactive")
    id, id_fault = _derive_id(record, stated.id)
    model, model_fault = _derive_model(record, own, stated.model)
    keep_s = stated.keep_s
    if codec == "text" and keep_s is None:
        keep_s = h.number(headers, h.KEEP_S)
    envelope = Envelope(
        id=id,
        model=model,
        lane=h.lane(headers) or topic_lane,
        codec=codec,
        reply=stated.reply or _header_reply(headers),
        keep_s=keep_s,
        tenant=stated.tenant or h.text(headers, h.TENANT) or "",
        meta=stated.meta,
        item_ids=stated.item_ids,
    )
    return envelope, id_fault or model_fault


def _derive_id(record: Record, stated: str | None) -> tuple[str, tuple[Code, str] | None]:
    """The frozen id, the stated one, CloudEvents' one, else the record's place, which is unique in one cluster."""
    place = f"{record.topic}-{record.partition}-{record.offset}-{record.timestamp_ms}"
    chosen = h.text(record.headers, h.ID) or stated or h.text(record.headers, h.CE_ID)
    if chosen is None or chosen == "":
        return place, None
    if is_id(chosen):
        return chosen, None
    return place, ("malformed", "`id` must match [A-Za-z0-9._:/-]{1,128}")


def _derive_model(record: Record, own: str | None, stated: str | None) -> tuple[str, tuple[Code, str] | None]:
    """The model of the topic, where a contrary `model` is refused, since topic ACLs guard models; else the stated
    one; else the record's key.
    """
    if own is not None:
        if stated is not None and stated != own:
            return own, ("malformed", f"`model` contradicts the topic {record.topic}, which belongs to {own}")
        return own, None
    try:
        name = stated or (record.key or b"").decode()
    except UnicodeDecodeError:
        name = ""
    if not is_model_name(name):
        return "", ("unknown_model", "name the model in `model` or as the record's key: lower case, digits, dashes")
    return name, None


def _header_reply(headers: h.Headers) -> TopicReply | None:
    topic = h.text(headers, h.REPLY_TOPIC)
    return TopicReply(topic=topic, partition=h.reply_partition(headers)) if topic else None
