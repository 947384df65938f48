"""What does an error of PostgreSQL mean to a bulk job?"""

from __future__ import annotations

from typing import Final

import psycopg

from embedmq.bulk.errors import Away, BulkError, SinkRefused

_PASSING: Final = ("08", "57", "40", "53", "55P03")
"""SQLSTATEs, or their classes, of what may be over when it is tried again: no connection, the server stops or starts, a
deadlock, out of memory or connections, a lock that was not had."""
_DISK_FULL: Final = "53100"
_NO_RIGHTS: Final = "42501"
_DENIALS: Final = ("authentication failed", "does not exist", "pg_hba.conf", "no password", "not permitted", "invalid")
"""Words of libpq, which gives no SQLSTATE for what keeps it from connecting."""


def explain(error: psycopg.Error | UnicodeError, where: str) -> BulkError:
    """Away when it may work later with nothing changed, else SinkRefused; in one line, without any password."""
    if isinstance(error, UnicodeError):
        return SinkRefused(f"{where}: PostgreSQL keeps UTF-8 only: {error}")
    state = error.sqlstate
    what = " ".join((error.diag.message_primary or str(error)).split())
    if hint := error.diag.message_hint:
        what = f"{what} ({' '.join(hint.split())})"
    if state is None:
        passing = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
        away = passing and not any(word in what for word in _DENIALS)
        return Away(f"{where} is away: {what}") if away else SinkRefused(f"{where}: {what}")
    if state == _DISK_FULL:
        return SinkRefused(f"{where}: {what}: make room on the server, then run the same command")
    if state.startswith(_PASSING):
        return Away(f"{where}: {what}")
    if state == _NO_RIGHTS:
        return SinkRefused(f"{where}: {what}: it wants SELECT, INSERT and UPDATE on the table")
    return SinkRefused(f"{where}: {what}")
