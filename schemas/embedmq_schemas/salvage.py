"""What of a broken request can still be read, to answer it?"""

from __future__ import annotations

import json
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw, Struct

from embedmq_schemas.codec import Codec
from embedmq_schemas.requests import Reply, StreamReply, TopicReply

_T = TypeVar("_T")

_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)
_BOUND_BYTES: Final = 1024 * 1024
"""Most bytes of one field, and of JSON that is read a second time: what is salvaged stays small however large the
record is.
"""


class Address(Struct, frozen=True):
    """The fields of a request that its answer needs, as far as they were stated."""

    id: str | None = None
    model: str | None = None
    reply: Reply | None = None
    keep_s: int | None = None
    tenant: str | None = None
    meta: dict[str, str] | None = None
    item_ids: list[str] | None = None


class _Fields(Struct):
    """The address fields, each still encoded, so that a broken one costs only itself."""

    id: Raw = Raw()
    model: Raw = Raw()
    reply: Raw = Raw()
    keep_s: Raw = Raw()
    tenant: Raw = Raw()
    meta: Raw = Raw()
    item_ids: Raw = Raw()


class _Place(Struct):
    topic: Raw = Raw()
    partition: Raw = Raw()
    key: Raw = Raw()
    client: Raw = Raw()


def salvage(value: bytes, codec: Codec) -> Address:
    """Read what can be read of a broken request's address; what cannot is None."""
    if codec == "text":
        return Address()
    found = _find(value, codec)
    return Address(
        id=_read(found.id, codec, str),
        model=_read(found.model, codec, str),
        reply=_read_reply(found.reply, codec),
        keep_s=_read_natural(found.keep_s, codec),
        tenant=_read(found.tenant, codec, str),
        meta=_read(found.meta, codec, dict[str, str]),
        item_ids=_read(found.item_ids, codec, list[str]),
    )


def _find(value: bytes, codec: Codec) -> _Fields:
    try:
        return _decode(value, codec, _Fields)
    except _UNREADABLE:
        return _Fields() if codec == "msgpack" or len(value) > _BOUND_BYTES else _find_leniently(value)


def _find_leniently(value: bytes) -> _Fields:
    """Read JSON as Python's own module does, which takes (and writes) half a surrogate pair, as msgspec does not.

    A field that has such a half in it cannot be encoded again, and so is left out here.
    """
    try:
        found: object = json.loads(value.decode("utf-8", "surrogateescape"))
    except _UNREADABLE:
        return _Fields()
    if not isinstance(found, dict):
        return _Fields()
    fields: dict[str, Any] = {name: found[name] for name in _Fields.__struct_fields__ if name in found}
    encoded: dict[str, Raw] = {}
    for name, field in fields.items():
        try:
            encoded[name] = Raw(msgspec.json.encode(field))
        except _UNREADABLE:
            continue
    return _Fields(**encoded)


def _read(field: Raw, codec: Codec, kind: type[_T]) -> _T | None:
    if len(memoryview(field)) > _BOUND_BYTES:
        return None
    try:
        return _decode(field, codec, kind)
    except _UNREADABLE:
        return None


def _decode(value: bytes | Raw, codec: Codec, kind: type[_T]) -> _T:
    if codec == "msgpack":
        return msgspec.msgpack.decode(value, type=kind)
    return msgspec.json.decode(value, type=kind)


def _read_natural(field: Raw, codec: Codec) -> int | None:
    number = _read(field, codec, int)
    return number if number is not None and 0 <= number < 2**63 else None


def _read_reply(field: Raw, codec: Codec) -> Reply | None:
    place = _read(field, codec, _Place)
    if place is None:
        return None
    topic, client = _read(place.topic, codec, str), _read(place.client, codec, str)
    if topic:
        return TopicReply(topic, _read_natural(place.partition, codec), _read(place.key, codec, str))
    return StreamReply(client) if client else None
