"""PostgreSQL is read in one order whatever the type of its keys, from any row on, and says what cannot be read."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import psycopg
import pytest
from embedmq.bulk.errors import Away, SourceRefused
from embedmq.bulk.rows import Block, Columns, Position
from embedmq.bulk.sources.postgres import PostgresSource


def run(database: str, *statements: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def opened(uri: str, **columns: object) -> PostgresSource:
    source = PostgresSource(uri, msgspec.convert(columns, Columns))
    source.open()
    return source


def read(source: PostgresSource, after: Position | None = None) -> list[Block]:
    return list(source.read(after))


def rows(blocks: Sequence[Block]) -> list[tuple[str, str]]:
    return [(row.id, row.text) for block in blocks for row in block.rows]


def check_every_position(source: PostgresSource) -> list[tuple[str, str]]:
    """All rows, after having read the rest behind each block."""
    blocks = read(source)
    for i, block in enumerate(blocks):
        after = msgspec.json.decode(msgspec.json.encode(block.after))
        assert rows(read(source, after)) == rows(blocks[i + 1 :])
    return rows(blocks)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and pages of a few rows."""
    monkeypatch.setattr("embedmq.bulk.sources.blocks.MAX_BLOCK_ROWS", 3)
    monkeypatch.setattr("embedmq.bulk.sources.postgres.MAX_BLOCK_ROWS", 4)


KEYS = {
    "bigint": "i - 5",
    "uuid": "md5(i::text)::uuid",
    "text": "chr(64 + i) || case when i % 2 = 0 then 'a' else 'Ä''\"%' end",
    "char(9)": "'n' || i",
    "numeric": "i / 8.0",
    "timestamptz": "'2024-01-01'::timestamptz + i * interval '1 hour'",
}


def test_a_primary_key_of_any_type_gives_the_order(database: str) -> None:
    """Page by page, behind a value of the key, which travels as text."""
    for i, (type, values) in enumerate(KEYS.items()):
        run(
            database,
            f'create table "Docs {i}" (key {type} primary key, text text not null, lang text)',
            f"insert into \"Docs {i}\" select {values}, 'text ' || i, 'de' from generate_series(1, 11) i",
        )
        source = opened(f"{database}&table=Docs {i}", keep=["lang", "key"])
        assert source.repeats == "never"
        assert source.count() == 11
        assert sorted(int(text[5:]) for _, text in check_every_position(source)) == list(range(1, 12))
        block = read(source)[0]
        assert block.places[0] == f"Docs {i} id {block.rows[0].id}"
        assert block.rows[0].kept["lang"] == "de"


def test_rows_without_a_key_are_sorted_and_those_without_an_id_come_last(database: str) -> None:
    """Ids that come twice, several times over a block's end, and nulls: each row comes once, each null is a flaw."""
    run(
        database,
        "create table docs (id text, text text)",
        "insert into docs select case when i % 5 > 0 then 'k' || i % 5 end, 't' || i from generate_series(1, 30) i",
        "insert into docs values ('k1', 't1'), ('k2', null), ('', 'x'), (repeat('x', 513), 'x')",
    )
    source = opened(f"{database}&table=docs")
    assert (source.repeats, source.count()) == ("flaw", 34)
    assert len(check_every_position(source)) == 25
    blocks = read(source)
    whole = [flaw for block in blocks for flaw in block.flaws]
    for i, block in enumerate(blocks):
        rest = [flaw for block in read(source, block.after) for flaw in block.flaws]
        assert rest == [flaw for block in blocks[i + 1 :] for flaw in block.flaws]
    assert [flaw.where for flaw in whole][-6:] == ["docs without id"] * 6
    assert "'text' is null, where a text was expected" in [flaw.message for flaw in whole]
    assert {flaw.message for flaw in whole if flaw.id is None} == {
        "'id' is null, which is no id: a text or a whole number is",
        "'id' is empty",
        "'id' has 513 characters; an id has at most 512",
    }


def test_a_query_may_say_what_a_text_is(database: str) -> None:
    """With quotes, percent signs and a last comment; what is kept and no scalar travels as JSON."""
    run(
        database,
        "create table docs (id bigint primary key, title text, body text, at timestamptz, tags text[], facts jsonb)",
        "insert into docs select i, '50%', 'b' || i, '2024-01-01Z', '{a,b}', '{\"n\": 1}' from generate_series(1, 9) i",
    )
    query = "select id, title || ' ' || body as text, tags, facts from docs where body like 'b%25' and id <> 3; -- ours"
    source = opened(f"{database}&query={query.replace('; --', ' --')}", keep=["tags", "facts"])
    found = check_every_position(source)
    assert (source.repeats, source.count(), len(found)) == ("flaw", 8, 8)
    assert found[0] == ("1", "50% b1")
    assert read(source)[0].rows[0].kept == {"tags": '["a","b"]', "facts": '{"n":1}'}


def test_a_text_larger_than_is_read_stays_in_the_database(database: str) -> None:
    """The row is a flaw with its size."""
    run(
        database,
        "create table docs (id int primary key, text text)",
        "insert into docs values (1, repeat('x', 5000000)), (2, 'b')",
    )
    (block,) = read(opened(f"{database}&table=docs"))
    assert [row.id for row in block.rows] == ["2"]
    assert block.flaws[0].where == "docs id 1"
    assert block.flaws[0].code == "too_large"
    assert "5000000 bytes" in block.flaws[0].message


def test_only_what_tells_all_rows_apart_is_read_by_pages(database: str) -> None:
    """Not an index that some rows lack, nor the keys of a table with children, which have theirs; never a view."""
    run(
        database,
        "create table docs (id int primary key, other int unique, text text)",
        "create table child () inherits (docs)",
        "create table half (id int not null, text text)",
        "create unique index on half (id) where id > 0",
        "create table two (id int, no int, text text, primary key (id, no))",
        "create view seen as select * from half",
        "insert into docs values (1, 1, 'a')",
        "insert into child values (1, 1, 'b')",
    )
    for table in ("docs", "half", "two", "seen"):
        assert opened(f"{database}&table={table}").repeats == "flaw"
    assert rows(read(opened(f"{database}&table=docs"))) == [("1", "a"), ("1", "b")]
    assert opened(f"{database}&table=public.child", id="other").repeats == "flaw"


REFUSED: list[tuple[str, dict[str, str], str]] = [
    ("table=dosc", {}, r'relation "dosc" does not exist: did you mean .docs.\?'),
    ("table=docs", {"text": "boody"}, r"no column 'boody' \(--text\): did you mean 'body'\?"),
    ("table=docs", {"text": "id"}, r"column 'id' is int4, not text"),
    ("table=docs", {"text": "body", "id": "score"}, r"column 'score' is float8, which is no id"),
    ("table=bare", {"text": "body"}, r"neither a column 'id' nor a primary key: .* --id"),
    ("table=docs&query=select 1", {}, r"say what to read, by \?table=docs or by \?query="),
    ("", {}, r"say what to read"),
    ("query=delete from docs", {}, "syntax error"),
    ("query=select 1 as id, body as text, body as text from docs", {}, "ambiguous"),
    ("table=docs&bogus=1", {}, "cannot read this address"),
]


def test_what_cannot_be_read_is_refused_in_one_line(database: str) -> None:
    """Before any row is read."""
    run(
        database,
        "create table docs (id int primary key, body text, score float8)",
        "create table bare (no int, body text)",
    )
    for what, columns, reason in REFUSED:
        with pytest.raises(SourceRefused, match=reason) as caught:
            opened(f"{database}&{what}", **columns)
        assert "\n" not in str(caught.value)


def test_a_server_that_is_away_is_away_and_no_password_is_shown(database: str) -> None:
    """Nobody listens; a wrong user is refused, since waiting would not help."""
    away = PostgresSource("postgresql://me:s3cret@127.0.0.1:1/db?table=docs", Columns())
    assert "s3cret" not in f"{away!r} {vars(away)}"
    with pytest.raises(Away, match=r"postgresql://127\.0\.0\.1:1/db is away: .*refused") as caught:
        away.open()
    assert "s3cret" not in str(caught.value)
    with pytest.raises(SourceRefused, match='role "nobody-here" does not exist'):
        opened(database.replace("postgres:@", "nobody-here:s3cret@") + "&table=docs")


def test_a_connection_that_is_lost_is_away_and_reading_goes_on(database: str) -> None:
    """From where the last block ended, with no row twice, in pages and through a cursor."""
    run(
        database,
        "create table docs (id int primary key, text text)",
        "insert into docs select i, 't' || i from generate_series(1, 20) i",
    )
    for what in ("table=docs", "query=select * from docs"):
        source = opened(f"{database}&{what}")
        blocks = source.read(None)
        before = [next(blocks), next(blocks)]
        run(
            database,
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where pid <> pg_backend_pid() and datname = current_database()",
        )
        with pytest.raises(Away, match="is away"):
            before += blocks
        source.close()
        again = opened(f"{database}&{what}")
        everything = [int(id) for id, _ in rows([*before, *read(again, before[-1].after)])]
        assert sorted(everything) == list(range(1, 21))


def test_leaving_in_the_middle_lets_the_connection_go(database: str) -> None:
    """No transaction stays open behind a job that has ended."""
    run(
        database, "create table docs (id text, text text)", "insert into docs select i, i from generate_series(1, 20) i"
    )
    source = opened(f"{database}&table=docs")
    blocks = source.read(None)
    next(blocks)
    source.close()
    blocks.close()  # type: ignore[attr-defined]  # it is a generator
    with psycopg.connect(database) as connection:
        row = connection.execute("select count(*) from pg_stat_activity where application_name = 'embedmq reindex'")
        assert row.fetchone() == (0,)
