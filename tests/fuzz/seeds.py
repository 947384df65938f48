"""Where does the fuzzer begin? At a sample of everything that travels."""

from __future__ import annotations

from typing import Final

import msgspec
from embedmq_schemas import (
    Embed,
    Embedded,
    Failed,
    Failure,
    Limits,
    ModelEntry,
    ModelStatus,
    Score,
    Scored,
    Sparse,
    StreamReply,
    Tensor,
    Timing,
    TopicReply,
    WorkerStatus,
)
from embedmq_schemas import headers as h
from embedmq_schemas.codec import CONTENT_TYPES
from embedmq_schemas.stub import Stub

from tests.fuzz.record import SEPARATOR, TOPICS, join
from tests.schemas import golden


def _both(name: str) -> tuple[bytes, bytes]:
    """A sample in JSON and in MessagePack."""
    return golden.read(golden.NEWEST / f"{name}.json"), golden.read(golden.NEWEST / f"{name}.msgpack.hex")


REQUESTS: Final = tuple(_both(name) for name in golden.REQUESTS)
RESULTS: Final = tuple(value for name in golden.RESULTS for value in _both(name))
ENTRIES: Final = (golden.read(golden.NEWEST / "stream-entry.msgpack.hex"), b"\x90")
STATUS: Final = {name: golden.read(golden.NEWEST / f"{name}.json") for name in golden.STATUS}
IN_CODEC: Final = (
    b"\x02" + SEPARATOR + b"a cat",
    *(bytes([codec]) + SEPARATOR + value for pair in REQUESTS for codec, value in enumerate(pair)),
)
PAST: Final = (
    (h.ID, b"id-1"),
    (h.LANE, b"bulk"),
    (h.MODEL, b"minilm"),
    (h.ATTEMPT, b"2"),
    (h.PARKED, b"7"),
    (h.ALONE, b"1"),
    (h.NOT_BEFORE, b"1700000010000"),
    (h.FIRST_SEEN, b"1700000000000"),
)
DEAD: Final = (
    (h.ERROR_CODE, b"unknown_model"),
    (h.FIRST_SEEN, b"1700000000000"),
    (h.DLT_TOPIC, b"embedmq.minilm.bulk"),
    (h.DLT_PARTITION, b"\x00\x00\x00\x03"),
    (h.DLT_OFFSET, b"\x00\x00\x00\x00\x00\x00\x00\x11"),
    (h.DLT_MESSAGE, b"nobody serves it"),
    (h.ID, b"id-1"),
    (h.LANE, b"bulk"),
    (h.ATTEMPT, b"4"),
)
SPRING: Final = (
    (h.CONTENT_TYPE, b'"text/plain; charset=utf-8"'),
    (h.REPLY_TOPIC, b"vectors"),
    (h.REPLY_PARTITION, b"\x00\x00\x00\x07"),
    (h.CORRELATION_ID, bytes(range(16))),
    (h.KEEP_S, b"3600"),
    (h.TENANT, b"acme"),
    (h.CE_ID, b"id-2"),
    (h.REPLAYED, b"1700000000000"),
)
RECORDS: Final = (
    join(b"a cat", headers=SPRING),
    join(b'{"items":["a cat"]}', TOPICS[2], b"minilm"),
    *(join(value, topic, headers=PAST) for pair in REQUESTS[:2] for value in pair for topic in TOPICS[2:4]),
    *(join(value) for pair in REQUESTS for value in pair),
)

LETTERS: Final = (
    *(join(value, headers=DEAD) for pair in REQUESTS for value in pair),
    *(
        join(value, key=b"minilm", headers=[*DEAD, (h.DLT_TOPIC, b"embedmq.shared.bulk")])
        for value in (*REQUESTS[0], b"\xff")
    ),
)
MARKS: Final = tuple(SEPARATOR.join(values) for values in ([b"17", b"2", b"1"], [b"0", b"6", b"0"]))
FIELDS: Final = sorted(
    {
        name
        for kind in (
            *(Embed, Score, TopicReply, StreamReply, Embedded, Scored, Failed, Failure, Tensor, Sparse, Timing),
            *(Stub, ModelEntry, ModelStatus, WorkerStatus, Limits),
        )
        for name in kind.__struct_fields__
    }
)
WORDS: Final = (
    SEPARATOR,
    *(b'"%s":' % name.encode() for name in FIELDS),
    *(msgspec.msgpack.encode(name) for name in FIELDS),
    *(b'"%s"' % tag for tag in (b"embed", b"score", b"topic", b"stream", b"embedded", b"scored", b"failed")),
    *(msgspec.msgpack.encode(tag) for tag in ("embed", "score", "topic", "stream", "embedded", "scored", "failed")),
    *(b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc0"),
    *(b"\xcf" + b"\xff" * 8, b"\xcb\x7f\xf8" + bytes(6), b"\xd6\xff" + bytes(4), b"[[[[", b"null", b"1e999", b"9" * 20),
    *(b"\\ud800", b"\xed\xa0\x80", b"\xff", b"\xef\xbb\xbf", *CONTENT_TYPES.values()),
)
"""What a reader looks for, or stumbles over: to be put anywhere."""
