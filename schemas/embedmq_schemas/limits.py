"""How large may requests and replies be?"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from embedmq_schemas.requests import ITEMS_CEILING

KIB = 1024
MIB = 1024 * KIB
MAX_ATTEMPTS = 4
"""How often a request is tried that fails for reasons that may pass."""


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of one request and its reply; workers publish theirs in the catalogue, clients split by them."""

    max_request_bytes: Annotated[int, Meta(ge=KIB, le=64 * MIB)] = 900 * KIB
    """Largest record value that is decoded, in bytes."""
    max_items: Annotated[int, Meta(ge=1, le=ITEMS_CEILING)] = 2_048
    """Most items in one request."""
    max_stream_reply_bytes: Annotated[int, Meta(ge=KIB, le=256 * MIB)] = 8 * MIB
    """Largest reply on a Redis stream or kept under a key, in bytes."""
    max_topic_reply_bytes: Annotated[int, Meta(ge=KIB, le=64 * MIB)] = 900 * KIB
    """Largest reply on a Kafka topic, in bytes."""
    max_meta_bytes: Annotated[int, Meta(ge=0, le=MIB)] = 4 * KIB
    """Most bytes of keys and values in `meta`."""
    max_keep_s: Annotated[int, Meta(ge=1)] = 7 * 24 * 3600
    """Longest a result is kept, in seconds; a longer wish is cut to it."""
