"""What do the source and the sink of PostgreSQL have in common: how an address is read, and what an error says?"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import unquote

import psycopg
from msgspec import Struct
from psycopg.conninfo import conninfo_to_dict, make_conninfo

DEFAULTS: Final = {
    "application_name": "embedmq reindex",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}
"""How soon a server that is gone is noticed, in s, where the address does not say otherwise."""
_DENIALS: Final = ("authentication failed", "does not exist", "pg_hba.conf", "no password", "not permitted", "invalid")
"""Words of libpq, which gives no SQLSTATE for what keeps it from connecting."""


class Secret:
    """A text that no `repr` shows."""

    def __init__(self, value: str) -> None:
        self.value = value


class Named(Struct, frozen=True):
    """An address taken apart: the options that are ours, what may be shown of it, and what is libpq's."""

    own: Mapping[str, str]
    shown: str
    foreign: Secret

    def conninfo(self, **defaults: str) -> str:
        """How libpq connects; it may hold a password.

        Raises `psycopg.Error` with a text that must not be shown: it quotes what it stumbles over, maybe the password.
        """
        return make_conninfo("", **(DEFAULTS | defaults | conninfo_to_dict(self.foreign.value)))


def take_apart(uri: str, own: Collection[str]) -> Named:
    """Read `postgresql://user@host/db?option=value&…`, of whose options those in `own` are ours.

    As libpq has it, `%` is an escape and `+` is not: `%` and `&` in a value are written `%25` and `%26`.
    """
    base, _, tail = uri.partition("?")
    parts = [part for part in tail.split("&") if part]
    found = {key: unquote(value) for key, _, value in (part.partition("=") for part in parts) if key in own}
    foreign = [part for part in parts if part.partition("=")[0] not in own]
    place = base.partition("://")[2]
    rest = f"postgresql://{place}" + ("?" + "&".join(foreign) if foreign else "")
    return Named(found, f"postgresql://{place.rpartition('@')[2]}", Secret(rest))


def words_of(error: psycopg.Error) -> str:
    """What happened, in one line."""
    return " ".join((error.diag.message_primary or str(error)).split())


def is_unreachable(error: psycopg.Error) -> bool:
    """Whether an error without an SQLSTATE means that there is no server now, rather than that it will not have us."""
    passing = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return passing and not any(word in words_of(error) for word in _DENIALS)
