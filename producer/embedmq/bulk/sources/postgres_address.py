"""Which table or query of which database does an address name?"""

from __future__ import annotations

from typing import Final

import psycopg
from msgspec import Struct

from embedmq.bulk.errors import SourceRefused
from embedmq.bulk.postgres import Secret, take_apart

OWN: Final = ("table", "query")
"""What of the address's query is ours; all else is libpq's."""


class Address(Struct, frozen=True):
    """What to read, by name or by query, and where."""

    secret: Secret
    shown: str
    """For messages."""
    table: tuple[str, ...] = ()
    """Its name, behind its schema's where one is named; empty for a query."""
    query: str = ""

    @property
    def conninfo(self) -> str:
        """How libpq connects; it may hold a password."""
        return self.secret.value

    @property
    def name(self) -> str:
        """What rows are said to be of."""
        return ".".join(self.table) or "query"


def read_address(uri: str) -> Address:
    """Read `postgresql://user@host/db?table=[schema.]name` or `?query=select …`; raises SourceRefused.

    `%` and `&` in a query are written `%25` and `%26`.
    """
    named = take_apart(uri, OWN)
    own, shown = named.own, named.shown
    if len([value for value in own.values() if value.strip()]) != 1:
        raise SourceRefused(f"{shown}: say what to read, by ?table=docs or by ?query=select …")
    try:
        conninfo = named.conninfo(client_encoding="utf8")
    except psycopg.Error:
        hint = "write what is special in user, password or query as %xx, and check the names behind the question mark"
        raise SourceRefused(f"{shown}: PostgreSQL cannot read this address: {hint}") from None
    return Address(
        Secret(conninfo),
        shown,
        tuple(own["table"].split(".", 1)) if own.get("table") else (),
        own.get("query", "").strip().rstrip(";"),
    )
