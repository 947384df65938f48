"""What may a producer ask for?"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

Lane = Literal["interactive", "bulk"]
LANES: Final[tuple[Lane, Lane]] = ("interactive", "bulk")

OUTPUTS: Final = ("dense", "sparse", "multivector")
DTYPES: Final = ("float32", "float16", "int8", "ubinary")
ENCODINGS: Final = ("bytes", "array")

Whole = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""An integer that both codecs, Redis and numpy can hold; JSON alone knows larger ones."""
Natural = Annotated[int, Meta(ge=0, le=2**63 - 1)]

Item = str | list[Whole]
"""One thing to embed: a text, or the token ids of one."""

ITEMS_CEILING: Final = 65_536
"""More items than any configuration may allow: MessagePack announces lengths, so they are refused unallocated."""

Items = Annotated[list[Item], Meta(max_length=ITEMS_CEILING)]
Texts = Annotated[list[str], Meta(max_length=ITEMS_CEILING)]


class TopicReply(Struct, frozen=True, tag_field="type", tag="topic", forbid_unknown_fields=True, omit_defaults=True):
    """Answer on a Kafka topic; without `key`, the record key is the request's id."""

    topic: str
    partition: Natural | None = None
    key: str | None = None


class StreamReply(Struct, frozen=True, tag_field="type", tag="stream", forbid_unknown_fields=True, omit_defaults=True):
    """Answer on the Redis stream of one client (`embedmq:replies:<client>`)."""

    client: str


Reply = TopicReply | StreamReply


class Embed(
    Struct, frozen=True, kw_only=True, tag_field="type", tag="embed", forbid_unknown_fields=True, omit_defaults=True
):
    """Turn items into vectors. Null always means "not given"; `docs/wire.md` has the defaults."""

    id: str | None = None
    model: str | None = None
    items: Items
    outputs: list[str] | None = None
    prompt_name: str | None = None
    prompt: str | None = None
    dimensions: Whole | None = None
    dtype: str | None = None
    normalize: bool | None = None
    truncate: bool | None = None
    encoding: str | None = None
    reply: Reply | None = None
    keep_s: Natural | None = None
    deadline_unix_ms: Whole | None = None
    tenant: str | None = None
    job: str | None = None
    revision: str | None = None
    meta: dict[str, str] | None = None
    item_ids: list[str] | None = None


class Score(
    Struct, frozen=True, kw_only=True, tag_field="type", tag="score", forbid_unknown_fields=True, omit_defaults=True
):
    """Rank documents against a query with a cross-encoder."""

    id: str | None = None
    model: str | None = None
    query: str
    documents: Texts
    top_n: Whole | None = None
    truncate: bool | None = None
    reply: Reply | None = None
    keep_s: Natural | None = None
    deadline_unix_ms: Whole | None = None
    tenant: str | None = None
    job: str | None = None
    revision: str | None = None
    meta: dict[str, str] | None = None
    item_ids: list[str] | None = None


Request = Embed | Score


def count_items(request: Request) -> int:
    """How many items, and so how many rows or scores in the answer."""
    return len(request.items) if isinstance(request, Embed) else len(request.documents)
