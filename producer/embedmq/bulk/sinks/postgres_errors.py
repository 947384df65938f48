"""What does an error of PostgreSQL mean to a bulk job?"""

from __future__ import annotations

from typing import Final

import psycopg

from embedmq.bulk.errors import Away, BulkError, SinkRefused
from embedmq.bulk.postgres import is_unreachable, words_of

_PASSING: Final = ("08", "57", "40", "53", "55P03")
"""SQLSTATEs, or their classes, of what may be over when it is tried again: no connection, the server stops or starts, a
deadlock, out of memory or connections, a lock that was not had."""
_DISK_FULL: Final = "53100"
_NO_RIGHTS: Final = "42501"


def explain(error: psycopg.Error | UnicodeError, where: str) -> BulkError:
    """Away when it may work later with nothing changed, else SinkRefused; in one line, without any password."""
    if isinstance(error, UnicodeError):
        return SinkRefused(f"{where}: PostgreSQL keeps UTF-8 only: {error}")
    state = error.sqlstate
    what = words_of(error)
    if hint := error.diag.message_hint:
        what = f"{what} ({' '.join(hint.split())})"
    if state is None:
        return Away(f"{where} is away: {what}") if is_unreachable(error) else SinkRefused(f"{where}: {what}")
    if state == _DISK_FULL:
        return SinkRefused(f"{where}: {what}: make room on the server, then run the same command")
    if state.startswith(_PASSING):
        return Away(f"{where}: {what}")
    if state == _NO_RIGHTS:
        return SinkRefused(f"{where}: {what}: it wants SELECT, INSERT and UPDATE on the table")
    return SinkRefused(f"{where}: {what}")
