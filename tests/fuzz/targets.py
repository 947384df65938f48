"""Which decoders read bytes from outside, and what may come of any bytes?"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

import msgspec
from embedmq import dead
from embedmq.dead import Place
from embedmq.dead_replay import Replay, decide
from embedmq.dead_selection import Chosen
from embedmq.kept import judge
from embedmq_schemas import headers as h
from embedmq_schemas import journey
from embedmq_schemas.catalogue import decode_model, decode_worker, encode
from embedmq_schemas.codec import (
    CONTENT_TYPES,
    Codec,
    Undecodable,
    decode_request,
    decode_result,
    detect,
    encode_request,
    encode_result,
    split_results,
)
from embedmq_schemas.codes import CODES
from embedmq_schemas.envelope import Envelope, Record, Refusal, open_record
from embedmq_schemas.limits import MAX_ATTEMPTS
from embedmq_schemas.names import is_id, is_model_name, is_topic
from embedmq_schemas.requests import Request, TopicReply
from embedmq_schemas.results import Embedded, Failed, Result, Tensor
from embedmq_schemas.salvage import salvage
from embedmq_schemas.stub import decode_stub, encode_stub
from embedmq_schemas.vectors import TensorMismatch, to_array
from embedmq_worker import starts

from tests.fuzz import seeds
from tests.fuzz.record import NAMES, SEPARATOR, TOPICS, join, split

MAX_REQUEST_BYTES: Final = 2_048
CODECS: Final[tuple[Codec, ...]] = ("json", "msgpack", "text")
FREE_BYTES: Final = 64 * 1024
BYTES_PER_BYTE: Final = 160
"""What reading one byte may allocate: MessagePack's one-byte empty list is an object of 56 bytes in a slot of 8, with
16 of the garbage collector's, and a list that grows is twice there while it moves.
"""


@dataclass(frozen=True)
class Target:
    """`read` is True for bytes that were taken, False for a refusal that is documented; it raises nothing."""

    name: str
    read: Callable[[bytes], bool]
    seeds: tuple[bytes, ...]


def check_memory(target: Target, data: bytes) -> None:
    """Reading allocates no more than a multiple of what is read. What is cached at a first reading is not counted."""
    target.read(data)
    tracemalloc.start()
    try:
        target.read(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= FREE_BYTES + BYTES_PER_BYTE * len(data), f"{peak} bytes for {len(data)}"


def read_record(data: bytes) -> bool:
    """Any record is a request or a refusal that can be answered; a request sent on to a retry topic stays the same."""
    record = split(data)
    opened = open_record(record, NAMES, MAX_REQUEST_BYTES)
    envelope = opened.envelope if isinstance(opened, Refusal) else opened[0]
    assert is_id(envelope.id)
    assert envelope.model == "" or is_model_name(envelope.model)
    assert envelope.keep_s is None or 0 <= envelope.keep_s < 2**63
    assert 0 <= envelope.journey.attempts < MAX_ATTEMPTS
    if isinstance(envelope.reply, TopicReply):
        assert is_topic(envelope.reply.topic)
    if isinstance(opened, Refusal):
        assert opened.code in CODES
        failed = Failed(id=envelope.id, code=opened.code, message=opened.message, meta=envelope.meta)
        assert decode_result(encode_result(failed, envelope.codec)) == failed
        return False
    _check_sent_on(record, *opened)
    return True


def _check_sent_on(record: Record, envelope: Envelope, request: Request) -> None:
    spent = msgspec.structs.replace(envelope.journey, attempts=min(envelope.journey.attempts + 1, MAX_ATTEMPTS - 1))
    headers = journey.send_on(record, envelope, spent, tried=NAMES.is_retry(record.topic))
    again = open_record(
        msgspec.structs.replace(record, topic=NAMES.retry(10), offset=record.offset + 1, headers=headers),
        NAMES,
        MAX_REQUEST_BYTES,
    )
    assert not isinstance(again, Refusal), again
    assert again[1] == request
    assert again[0].journey.attempts == spent.attempts
    assert msgspec.structs.replace(again[0], journey=envelope.journey) == envelope


def read_request(data: bytes) -> bool:
    """In each of the codecs: a request, which is the same once encoded and read again, or `Undecodable`."""
    codec, value = _with_codec(data)
    try:
        request = decode_request(value, codec)
    except Undecodable as error:
        return _refused(error)
    binary: Literal["json", "msgpack"] = "json" if codec == "json" else "msgpack"
    assert decode_request(encode_request(request, binary), binary) == request
    return True


def _refused(error: Undecodable) -> bool:
    assert error.code in CODES
    assert len(error.message) <= 200
    return False


def _with_codec(data: bytes) -> tuple[Codec, bytes]:
    head, _, value = data.partition(SEPARATOR)
    return CODECS[head[0] % len(CODECS)] if head else "json", value


def read_salvage(data: bytes) -> bool:
    """What of a broken request is still read can be answered with: nothing raises, and it can be encoded."""
    codec, value = _with_codec(data)
    address = salvage(value, codec)
    msgspec.json.encode(address)
    msgspec.msgpack.encode(address)
    return any(getattr(address, name) is not None for name in address.__struct_fields__)


def read_result(data: bytes) -> bool:
    """A result whose tensors are arrays or `TensorMismatch`, or `Undecodable`."""
    try:
        result = decode_result(data)
    except Undecodable:
        return False
    _check_result(result)
    return True


def read_entry(data: bytes) -> bool:
    """Results, or `Undecodable`."""
    try:
        results = split_results(data)
    except Undecodable:
        return False
    for result in results:
        _check_result(result)
    return bool(results)


def _check_result(result: Result) -> None:
    if not isinstance(result, Embedded):
        return
    tensors: list[Tensor] = [*filter(None, [result.dense]), *(result.multivector or ())]
    for tensor in tensors:
        with suppress(TensorMismatch):
            array = to_array(tensor)
            assert array.shape == tensor.shape
            assert not array.flags.writeable


def read_stub(data: bytes) -> bool:
    """A stub, or the error."""
    try:
        stub = decode_stub(data)
    except msgspec.MsgspecError:
        return False
    assert decode_stub(encode_stub(stub)) == stub
    return True


def read_model(data: bytes) -> bool:
    """A catalogue entry, or the error."""
    try:
        entry = decode_model(data)
    except msgspec.MsgspecError:
        return False
    assert decode_model(encode(entry)) == entry
    return True


def read_worker(data: bytes) -> bool:
    """A worker's status, or the error."""
    try:
        status = decode_worker(data)
    except msgspec.MsgspecError:
        return False
    assert decode_worker(encode(status)) == status
    return True


def read_headers(data: bytes) -> bool:
    """Each header's bytes are what they say or are passed over; a journey stays within its ranges."""
    headers = split(data).headers
    found = h.find(headers)
    for name in found:
        assert h.last(headers, name) == found[name]
        assert detect(found[name], b"") in CONTENT_TYPES
        number = h.number(found, name)
        assert number is None or 0 <= number < 10**18
    partition = h.reply_partition(found)
    assert partition is None or 0 <= partition < 10**18
    assert h.lane(found) in {None, "interactive", "bulk"}
    past = journey.read(found, MAX_ATTEMPTS)
    assert 0 <= past.attempts < MAX_ATTEMPTS
    assert past.parked >= 0
    assert past.not_before_unix_ms >= 0
    return past != journey.FRESH


def read_kept(data: bytes) -> bool:
    """What a result key and a stub key say together is always a verdict."""
    value, found, stub = data.partition(SEPARATOR)
    verdict = judge("id-1", value or None, stub if found else None, 1_700_000_000_000)
    return not isinstance(verdict.answer, Exception)


def read_dead(data: bytes) -> bool:
    """Any record is a letter; one that may be replayed becomes a request of the same id that was never tried."""
    record = split(data)
    place = Place(record.partition, record.offset)
    letter = dead.read(place, record.timestamp_ms, record.key, record.value, record.headers, NAMES)
    assert letter.model == "" or is_model_name(letter.model)
    replay = decide(letter, Chosen(frozenset({place}), {letter.id: place}), NAMES, TOPICS, record.timestamp_ms)
    if not isinstance(replay, Replay):
        return False
    assert replay.value == record.value
    opened = open_record(
        Record(replay.topic, 0, 1, record.timestamp_ms, replay.key, replay.value, replay.headers),
        NAMES,
        MAX_REQUEST_BYTES,
    )
    envelope = opened.envelope if isinstance(opened, Refusal) else opened[0]
    assert envelope.id == letter.id
    assert envelope.journey == journey.FRESH
    assert isinstance(opened, Refusal) or opened[1].deadline_unix_ms is None
    return True


def read_starts(data: bytes) -> bool:
    """The fields of a start counter are a mark or nothing; whatever it says, no count leaves its range."""
    values = [value or None for value in data.split(SEPARATOR)[: len(starts.FIELDS)]]
    mark = starts._read([*values, *[None] * (len(starts.FIELDS) - len(values))])
    for head in (0, mark.offset if mark else 1):
        judged = starts.judge(mark, head)
        assert judged.offset == head
        assert 0 <= judged.deaths <= starts.UNRUN_FROM
    return mark is not None


TARGETS: Final = (
    Target("record", read_record, seeds.RECORDS),
    Target("request", read_request, seeds.IN_CODEC),
    Target("salvage", read_salvage, seeds.IN_CODEC),
    Target("headers", read_headers, (join(b"", headers=seeds.PAST), join(b"", headers=seeds.SPRING))),
    Target("result", read_result, seeds.RESULTS),
    Target("entry", read_entry, seeds.ENTRIES),
    Target("kept", read_kept, tuple(value + SEPARATOR + seeds.STATUS["stub"] for value in (b"", *seeds.RESULTS))),
    Target("stub", read_stub, (seeds.STATUS["stub"],)),
    Target("model", read_model, (seeds.STATUS["model-entry"],)),
    Target("worker", read_worker, (seeds.STATUS["worker-status"], seeds.STATUS["worker-status-residents"])),
    Target("dead", read_dead, seeds.LETTERS),
    Target("starts", read_starts, seeds.MARKS),
)
