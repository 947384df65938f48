"""How does one process, and no second one, have a job at a database?"""

from __future__ import annotations

import hashlib
from typing import Final

import psycopg
from msgspec import Struct
from psycopg.rows import TupleRow

from embedmq.bulk.errors import JobTaken

LOCK_WAIT: Final = "30s"
"""How long a statement waits for a table that somebody else has locked, where the role has no `lock_timeout`."""
JOB_WAIT: Final = "1s"
"""How long we wait for the end of a process that had the job before us."""
SETTINGS: Final = {
    "lock_timeout": LOCK_WAIT,
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
"""How soon the server notices that we are gone: it keeps the job's lock until then."""

Connection = psycopg.Connection[TupleRow]


class Session(Struct, frozen=True):
    """A connection, and what tells its process at the server from a later one of the same number."""

    connection: Connection
    pid: object
    began: object


def begin(conninfo: str, job: str, former: Session | None) -> Session:
    """Connect and take the job's advisory lock, which ends with the session. A `former` one, which the server may not
    know to be dead, is ended. Raises JobTaken, psycopg.Error.
    """
    connection: Connection = psycopg.connect(conninfo, autocommit=True)
    try:
        connection.execute(
            "select set_config(name, value, false) from unnest(%s::text[], %s::text[]) as wish(name, value)"
            " where name <> 'lock_timeout' or current_setting(name) = '0'",
            (list(SETTINGS), list(SETTINGS.values())),
        )
        activity = "from pg_stat_activity where pid = "
        if former is not None:
            query = f"select pg_terminate_backend(pid) {activity} %s and backend_start = %s"
            connection.execute(query, (former.pid, former.began))
        _lock(connection, job)
        row = connection.execute(f"select pid, backend_start {activity} pg_backend_pid()").fetchone()
    except BaseException:
        connection.close()
        raise
    pid, began = row or (None, None)
    return Session(connection, pid, began)


def _lock(connection: Connection, job: str) -> None:
    key = int.from_bytes(hashlib.blake2b(f"embedmq:job:{job}".encode(), digest_size=8).digest(), signed=True)
    try:
        with connection.transaction():
            connection.execute("select set_config('lock_timeout', %s, true)", (JOB_WAIT,))
            connection.execute("select pg_advisory_lock(%s)", (key,))
    except psycopg.errors.LockNotAvailable:
        message = f"another process runs the job {job!r} at this database"
        raise JobTaken(f"{message}: wait for it, or give this one another --name") from None
