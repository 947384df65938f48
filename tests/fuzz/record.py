"""How is a whole Kafka record one string of bytes, so that a fuzzer can change any part of it?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from embedmq_schemas import headers as h
from embedmq_schemas.envelope import Record
from embedmq_schemas.names import Names

NAMES: Final = Names("embedmq")
TOPICS: Final = (
    "embedmq.minilm.interactive",
    "embedmq.minilm.bulk",
    "embedmq.shared.bulk",
    "embedmq.retry.10s",
    "embedmq.retry.5m",
    "embedmq..bulk",
    "elsewhere",
)
HEADERS: Final = tuple(dict.fromkeys([*h.REQUEST_HEADERS, *h.DEAD_HEADERS, "else"]))
SEPARATOR: Final = b"\x00|"
"""Between topic, key, headers and value. The value comes last, so that any bytes are left to it."""


def join(
    value: bytes, topic: str = TOPICS[0], key: bytes | None = None, headers: Sequence[tuple[str, bytes]] = ()
) -> bytes:
    """One string of bytes for a record."""
    named = [bytes([HEADERS.index(name)]) + header for name, header in headers]
    head = bytes([TOPICS.index(topic), key is not None, len(named)])
    return SEPARATOR.join([head, key or b"", *named, value])


def split(data: bytes) -> Record:
    """A record from any bytes whatever: indices wrap around, missing parts are empty, a missing value is null."""
    head, _, rest = data.partition(SEPARATOR)
    topic, has_key, count = (*head[:3], 0, 0, 0)[:3]
    key, *parts = rest.split(SEPARATOR, 1 + count)
    named, value = parts[:count], parts[count] if len(parts) > count else None
    headers: list[tuple[str, bytes | None]] = [
        (HEADERS[part[0] % len(HEADERS)], part[1:]) if part else (HEADERS[0], None) for part in named
    ]
    return Record(TOPICS[topic % len(TOPICS)], 0, 1, 1_700_000_000_000, key if has_key else None, value, headers)
