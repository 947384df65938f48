"""Which store does an address like `qdrant://host:6333/docs?https=1` name?"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from msgspec import Struct

from embedmq.bulk.errors import SinkRefused


class Address(Struct, frozen=True):
    """`authority` is host and port, and empty in `qdrant:///path`; `shown` is for messages."""

    authority: str
    path: str
    options: Mapping[str, str]
    shown: str


def read_address(uri: str, *options: str) -> Address:
    """Take an address to pieces; raises SinkRefused for one that is none, or has others than the known `options`."""
    try:
        parts = urlsplit(uri)
        found = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise SinkRefused(f"{uri.partition('?')[0].rpartition('@')[2]} is no address: {error}") from None
    shown = uri.partition("?")[0].replace(parts.netloc, parts.netloc.rpartition("@")[2])
    if "@" in parts.netloc:
        raise SinkRefused(f"{shown}: no user and password in this address: give them by the environment")
    for name, value in found:
        if name not in options or not value:
            raise SinkRefused(f"{shown}: cannot read {name}=…; known are {', '.join(options)}")
    return Address(parts.netloc, unquote(parts.path), dict(found), shown)
