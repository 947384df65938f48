"""Files are read in an order that is the same whenever, from any place on, and what is wrong in them is named."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedmq.bulk.adapters import make_source
from embedmq.bulk.errors import SourceRefused
from embedmq.bulk.failed import FailedRows
from embedmq.bulk.ports import Source
from embedmq.bulk.rows import MAX_BLOCK_ROWS, Block, Columns, Flaw, Position, Row
from embedmq.bulk.sources.csv import CsvSource
from embedmq.bulk.sources.jsonl import JsonlSource
from embedmq.bulk.sources.parquet import ParquetSource
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bulk.memory import found

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(["a,b", 'say "ja"', "a\r\nb"])
TABLES = st.lists(st.tuples(st.integers(), TEXTS), max_size=9)

Write = Callable[[Path, Sequence[tuple[int, str]]], None]


def write_jsonl(path: Path, table: Sequence[tuple[int, str]]) -> None:
    path.write_text(
        "".join(json.dumps({"id": id, "text": text}, ensure_ascii=False) + "\n" for id, text in table), newline=""
    )


def write_gzip(path: Path, table: Sequence[tuple[int, str]]) -> None:
    path.write_bytes(gzip.compress("".join(json.dumps({"id": id, "text": text}) + "\n" for id, text in table).encode()))


def write_csv(path: Path, table: Sequence[tuple[int, str]]) -> None:
    out = io.StringIO(newline="")
    csv.writer(out).writerows([("id", "text"), *table])
    path.write_bytes(out.getvalue().encode())


def write_parquet(path: Path, table: Sequence[tuple[int, str]]) -> None:
    ids, texts = [id % 2**60 for id, _ in table], [text for _, text in table]
    columns = {"id": pa.array(ids, pa.int64()), "text": pa.array(texts, pa.string())}
    pq.write_table(pa.table(columns), path, row_group_size=4)


SOURCES: dict[str, Callable[[str, Columns], Source]] = {
    "jsonl": JsonlSource,
    "csv": CsvSource,
    "parquet": ParquetSource,
}
KINDS: dict[str, Write] = {"jsonl": write_jsonl, "jsonl.gz": write_gzip, "csv": write_csv, "parquet": write_parquet}


def read(uri: object, after: Position | None = None, **columns: object) -> list[Block]:
    """What a source gives, by the address that a user names."""
    made = SOURCES[re.sub(r"\.gz$", "", str(uri)).rpartition(".")[2]]
    source = made(str(uri), msgspec.convert(columns, Columns))
    source.open()
    try:
        return list(source.read(after))
    finally:
        source.close()


def rows(blocks: Sequence[Block]) -> list[tuple[str, str]]:
    return [(row.id, row.text) for block in blocks for row in block.rows]


def flaws(blocks: Sequence[Block]) -> list[tuple[str, str]]:
    return [(flaw.where, flaw.message) for block in blocks for flaw in block.flaws]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of three rows."""
    monkeypatch.setattr("embedmq.bulk.sources.blocks.MAX_BLOCK_ROWS", 3)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(tables=st.lists(TABLES, min_size=1, max_size=4))
def test_from_any_position_on_comes_exactly_the_rest(kind: str, tables: list[list[tuple[int, str]]]) -> None:
    """Whatever stands in the files, a position that went through JSON leads behind its block, and nowhere else."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("embedmq.bulk.sources.blocks.MAX_BLOCK_ROWS", 3)
        for i, table in enumerate(tables):
            KINDS[kind](Path(folder, f"part-{i}.{kind}"), table)
        blocks = read(f"{folder}/*.{kind}")
        every = found(blocks)
        texts = [text for table in tables for _, text in table]
        empty = len([text for text in texts if not text]) if kind == "csv" else 0  # CSV knows no null: these are
        assert [row.text for row in every if isinstance(row, Row)] == [text for text in texts if text or not empty]
        assert len(every) == len(texts)
        assert all(len(block.rows) == len(block.places) and len(found([block])) <= 3 for block in blocks)
        for i, block in enumerate(blocks):
            after = msgspec.json.decode(msgspec.json.encode(block.after))
            assert found(read(f"{folder}/*.{kind}", after)) == found(blocks[i + 1 :])


def test_a_block_has_at_most_as_many_rows_as_it_may(tmp_path: Path) -> None:
    """And at most so many characters, however few its rows."""
    path = tmp_path / "docs.jsonl"
    write_jsonl(path, [(i, "t") for i in range(2 * MAX_BLOCK_ROWS + 1)])
    assert [len(block.rows) for block in read(path)] == [MAX_BLOCK_ROWS, MAX_BLOCK_ROWS, 1]
    write_jsonl(path, [(i, "t" * 3_000_000) for i in range(4)])
    assert [len(block.rows) for block in read(path)] == [2, 2]


def test_what_was_appended_comes_behind_a_position(tmp_path: Path) -> None:
    """Also behind a last line that had no end yet."""
    path = tmp_path / "docs.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b"}')
    (block,) = read(path)
    with path.open("a") as file:
        file.write('\n{"text": "c"}\n')
    assert rows([block]) == [("1", "a"), ("2", "b")]
    assert rows(read(path, block.after)) == [("3", "c")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_position_is_refused_where_the_file_is_another(kind: str, tmp_path: Path, small_blocks: None) -> None:
    """Shrunk, changed before the position, gone, or with other files before it; the message says what to do."""
    second = tmp_path / f"b.{kind}"
    KINDS[kind](tmp_path / f"a.{kind}", [(1, "one")])
    KINDS[kind](second, [(i, f"text {i}") for i in range(9)])
    uri = f"{tmp_path}/*.{kind}"
    after = read(uri)[1].after

    KINDS[kind](second, [(i, f"text {i}") for i in range(1)])
    with pytest.raises(SourceRefused, match=r"b\..* has changed since it was read up to .* --restart"):
        read(uri, after)
    KINDS[kind](second, [(i, f"other {i}") for i in range(9)])
    with pytest.raises(SourceRefused, match=r"has changed .* --restart"):
        read(uri, after)
    KINDS[kind](tmp_path / f"aa.{kind}", [(2, "two")])
    with pytest.raises(SourceRefused, match=r"the files before b\..* are not those .* --restart"):
        read(uri, after)
    second.unlink()
    with pytest.raises(SourceRefused, match=r"b\..* is gone.* --restart"):
        read(uri, after)
    with pytest.raises(SourceRefused, match="of another kind of source"):
        read(uri, {"offset": 3})


def test_a_header_of_the_same_length_is_another_header(tmp_path: Path, small_blocks: None) -> None:
    """Columns that change places would give other texts."""
    path = tmp_path / "docs.csv"
    path.write_text("text,body\n" + "a,b\n" * 1_000)
    after = read(path)[300].after
    path.write_text("body,text\n" + "a,b\n" * 1_000)
    with pytest.raises(SourceRefused, match="has changed"):
        read(path, after)


def test_a_folder_is_read_as_spark_writes_it(tmp_path: Path) -> None:
    """Parts at any depth in the order of their names; marks, checkpoints and hidden files are passed over."""
    folder = tmp_path / "vectors.parquet"
    for name in (
        "year=2024/part-1.parquet",
        "part-0.parquet",
        "_part.parquet",
        "_temporary/x.parquet",
        ".part.parquet",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_parquet(folder / name, [(7, name)])
    (folder / "_SUCCESS").touch()
    (folder / "readme.txt").touch()
    assert (
        rows(read(folder))
        == rows(read(f"{tmp_path}/*.parquet"))
        == [("7", "part-0.parquet"), ("7", "year=2024/part-1.parquet")]
    )
    assert [place for block in read(folder) for place in block.places][1] == "year=2024/part-1.parquet row 1"


@pytest.mark.parametrize("kind", KINDS)
def test_without_an_id_column_rows_are_numbered(kind: str, tmp_path: Path) -> None:
    """By the number that people see; of several files with the file's name, so that a further file changes none."""
    for name in ("a", "b"):
        KINDS[kind](tmp_path / f"{name}.{kind}", [(5, "first"), (6, "second")])
    first, second = (2, 3) if kind == "csv" else (1, 2)
    whole = rows(read(f"{tmp_path}/*.{kind}", id="text"))
    assert [id for id, _ in whole] == ["first", "second"] * 2
    source = make_source(f"{tmp_path}/*.{kind}", Columns())
    source.open()
    assert [row.id for block in source.read(None) for row in block.rows] == ["5", "6", "5", "6"]
    for name in ("a", "b"):
        rename_id(tmp_path / f"{name}.{kind}", kind)
    assert [id for id, _ in rows(read(tmp_path / f"a.{kind}"))] == [str(first), str(second)]
    numbered = [f"{name}.{kind}:{number}" for name in ("a", "b") for number in (first, second)]
    assert [id for id, _ in rows(read(f"{tmp_path}/*.{kind}"))] == numbered


def rename_id(path: Path, kind: str) -> None:
    if kind == "parquet":
        pq.write_table(pq.read_table(path).rename_columns(["no", "text"]), path)
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b'"id"', b'"no"')))
    else:
        path.write_bytes(path.read_bytes().replace(b"id", b"no"))


def test_a_broken_line_is_named_and_reading_goes_on(tmp_path: Path) -> None:
    """Broken JSON, bytes that are no UTF-8, a line that is no object, one that is too deep, lone surrogates."""
    path = tmp_path / "docs.jsonl"
    broken = [b'{"text": "a"', b'{"text": "\xff"}', b'["a"]', b'{"a":' + b"[" * 9_999, b'{"text": "\\ud800"}']
    good = b'{"id": %d, "text": "good"}'
    path.write_bytes(
        b"\xef\xbb\xbf" + b"\n".join(b"\n".join((good % i, bad)) for i, bad in enumerate(broken)) + b"\n\n\r\n"
    )
    (block,) = read(path)
    assert rows([block]) == [(str(i), "good") for i in range(5)]
    assert [flaw.where for flaw in block.flaws] == [f"docs.jsonl line {2 * i + 2}" for i in range(5)]
    assert list(block.places) == [f"docs.jsonl line {2 * i + 1}" for i in range(5)]
    assert {flaw.code for flaw in block.flaws} == {"malformed"}
    messages = [flaw.message for flaw in block.flaws]
    assert messages[2].startswith("Expected `object`, got `array`")
    assert messages[3] == "its objects are nested too deep"


def test_a_row_says_what_is_wrong_with_its_text_or_its_id(tmp_path: Path) -> None:
    """A null, a number, nothing at all; an empty text is one, as for `embed`. What can be read of a flaw is kept."""
    path = tmp_path / "docs.jsonl"
    lines = [
        {"id": "a", "text": None, "lang": "de"},
        {"id": 2, "text": 3},
        {"id": "c", "txt": "moved"},
        {"id": None, "text": "t"},
        {"id": 1.5, "text": "t"},
        {"id": True, "text": "t"},
        {"id": ["x"], "text": "t"},
        {"id": "", "text": "t"},
        {"id": "x" * 513, "text": "t"},
        {"id": "x" * 512, "text": ""},
        {"id": 2**80, "text": " ", "lang": {"code": ["de"]}},
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    blocks = read(path, keep=["lang"])
    assert [message for _, message in flaws(blocks)] == [
        "'text' is null, where a text was expected",
        "'text' is a number, where a text was expected",
        "no 'text': did you mean 'txt'? There is id, txt",
        "'id' is null, which is no id: a text or a whole number is",
        "'id' is a number, which is no id: a text or a whole number is",
        "'id' is a boolean, which is no id: a text or a whole number is",
        "'id' is a list, which is no id: a text or a whole number is",
        "'id' is empty",
        "'id' has 513 characters; an id has at most 512",
    ]
    first, second = blocks[0].flaws[:2]
    assert (first.id, first.text, first.kept) == ("a", None, {"lang": "de"})
    assert (second.id, blocks[0].flaws[3].text) == ("2", "t")
    last = blocks[0].rows[-1]
    assert [row.text for row in blocks[0].rows] == ["", " "]
    assert (last.id, last.kept) == (str(2**80), {"lang": '{"code":["de"]}'})


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_huge_line_is_passed_over_without_being_held(kind: str, tmp_path: Path) -> None:
    """40 MB in one line cost what the bound says, and what follows is read."""
    path = tmp_path / f"docs.{kind}"
    before, after = {"jsonl": ('{"text": "a"}', '{"text": "b"}'), "csv": ("text\na", "b")}[kind]
    with path.open("w") as file:
        file.write(before + "\n")
        for _ in range(40):
            file.write("x" * 1_000_000)
        file.write("\n" + after + "\n")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    blocks = read(path)
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    assert [text for _, text in rows(blocks)] == ["a", "b"]
    ((where, message),) = flaws(blocks)
    assert "line" in where
    assert "bytes" in message
    assert blocks[0].flaws[0].code == "too_large"
    assert grown_kb < 20_000
    assert read(path, blocks[-1].after) == []


def test_csv_goes_on_behind_what_is_broken(tmp_path: Path) -> None:
    """Too few fields, too many, a quote that does not end, one where none may be, no UTF-8: the next line is read."""
    path = tmp_path / "docs.csv"
    lines = [
        b"id,text",
        b"1,a",
        b"2",
        b"3,a,b",
        b'4,"x" y',
        b"5,\xff",
        b"6,",
        b"",
        b'7,"a ""b""\nc"',
        b'8,"open',
        b"9,z",
    ]
    path.write_bytes(b"\r\n".join(lines) + b"\r\n")
    blocks = read(path)
    assert rows(blocks) == [("1", "a"), ("7", 'a "b"\nc'), ("9", "z")]
    assert [place for block in blocks for place in block.places] == [f"docs.csv line {n}" for n in (2, 9, 12)]
    assert [where for where, _ in flaws(blocks)] == [f"docs.csv line {n}" for n in (3, 4, 5, 6, 7, 11)]
    messages = [message for _, message in flaws(blocks)]
    assert messages[0] == "1 fields, where the header has 2: is a comma or a quote amiss?"
    assert messages[4] == "'text' is null, where a text was expected"
    assert "not CSV" in messages[2]
    assert "not UTF-8" in messages[3]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_is_separated_as_its_header_is(delimiter: str, tmp_path: Path) -> None:
    """Spreadsheets of half the world write semicolons, and a mark before the header."""
    path = tmp_path / "docs.csv"
    path.write_text("\ufeff" + delimiter.join(['"text"', "id"]) + "\n" + delimiter.join(['"a, b; c\td"', "7"]) + "\n")
    assert rows(read(path)) == [("7", "a, b; c\td")]


def test_text_of_parquet_may_be_of_any_string_type(tmp_path: Path) -> None:
    """Dictionaries, large strings, views; nulls and bytes that are no UTF-8 are flaws; kept values travel as text."""
    path = tmp_path / "docs.parquet"
    values = ["a", None, "b"]
    bad = pa.array([b"a", b"\xff", b"b"], pa.binary()).view(pa.string())
    when = pa.array([1, None, 2], pa.timestamp("ns"))
    for texts in (pa.array(values, pa.large_string()), pa.array(values).dictionary_encode(), bad):
        pq.write_table(pa.table({"id": ["x", "y", "z"], "text": texts, "when": when, "no": [1.5, 2.5, 3.5]}), path)
        (block,) = read(path, keep=["when", "no"])
        assert rows([block]) == [("x", "a"), ("z", "b")]
        assert flaws([block])[0][0] == "docs.parquet row 2"
        assert block.rows[0].kept["no"] == 1.5
        assert str(block.rows[0].kept["when"]).startswith("1970-01-01")


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [("text", [1, 2], "column 'text' is int64, not text"), ("id", [1.5, 2.5], "column 'id' is double, which is no id")],
)
def test_types_that_no_row_could_have_are_refused_at_once(
    column: str, values: list[float], reason: str, tmp_path: Path
) -> None:
    """A column of numbers holds no texts: nobody waits for a million flaws."""
    path = tmp_path / "docs.parquet"
    pq.write_table(pa.table({"id": ["a", "b"], "text": ["a", "b"]} | {column: values}), path)
    with pytest.raises(SourceRefused, match=reason):
        read(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_is_not_there_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    """Text, id or kept: the message names the option, what is there, and what was probably meant."""
    path = tmp_path / f"docs.{kind}"
    KINDS[kind](path, [(1, "a")])
    with pytest.raises(SourceRefused, match=r"no column 'txet' \(--text\): did you mean 'text'\? There is id, text"):
        read(path, text="txet")
    with pytest.raises(SourceRefused, match=r"no column 'doc_id' \(--id\): did you mean 'id'\?"):
        read(path, id="doc_id")
    with pytest.raises(SourceRefused, match=r"no column 'lang' \(--keep\)"):
        read(path, keep=["lang"])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_there_is_refused_and_what_is_empty_has_no_rows(kind: str, tmp_path: Path) -> None:
    """A file, a glob, a folder; nothing is raised before `open`."""
    make_source(f"{tmp_path}/none.{kind}", Columns())
    with pytest.raises(SourceRefused, match="there is no such file or folder"):
        read(f"{tmp_path}/none.{kind}")
    with pytest.raises(SourceRefused, match="no file matches"):
        read(f"{tmp_path}/none/*.{kind}")
    folder = tmp_path / f"folder.{kind}"
    folder.mkdir()
    with pytest.raises(SourceRefused, match="no file in this folder ends with"):
        read(folder)
    KINDS[kind](folder / f"a.{kind}", [])
    assert read(folder) == []


def test_what_is_no_such_file_at_all_is_refused(tmp_path: Path) -> None:
    """A JSON array, UTF-16, half a gzip file, a Parquet file that is none, a header with a name twice."""
    for name, content, reason in [
        ("array.jsonl", b'[\n {"text": "a"}\n]', "of its first 3 lines 1 are JSON objects"),
        ("utf16.jsonl", '{"text": "a"}'.encode("utf-16"), "is UTF-16"),
        ("cut.jsonl", gzip.compress(os.urandom(99))[:-20], "cut.jsonl cannot be read"),
        ("docs.parquet", b"text,id\n", "docs.parquet cannot be read"),
        ("docs.csv", b"text,id,text\na,b,c", "has 2 columns 'text'"),
    ]:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(SourceRefused, match=reason):
            read(path)


def test_the_home_folder_may_be_written_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `~` that no shell has replaced."""
    monkeypatch.setenv("HOME", str(tmp_path))
    write_jsonl(tmp_path / "docs.jsonl", [(1, "a")])
    assert rows(read("~/docs.jsonl")) == [("1", "a")]


def test_rows_are_counted_where_a_footer_says_how_many(tmp_path: Path) -> None:
    """Lines would have to be read."""
    for i in range(2):
        write_parquet(tmp_path / f"{i}.parquet", [(1, "a"), (2, "b")])
        write_jsonl(tmp_path / f"{i}.jsonl", [(1, "a")])
    sources: list[Source] = [ParquetSource(str(tmp_path), Columns()), JsonlSource(str(tmp_path), Columns())]
    for source in sources:
        source.open()
        source.open()
    assert [source.count() for source in sources] == [4, None]


def test_a_file_of_failed_rows_is_a_source(tmp_path: Path) -> None:
    """It has the columns of the source that it came from, so that what failed can be tried again by itself."""
    columns = Columns(text="body", id="doc", keep=("lang",))
    failed = FailedRows(tmp_path / "job.failed.jsonl", columns)
    failed.open(0)
    failed.write([Flaw("docs.csv line 7", "too_long", "cut it", "a", "long", {"lang": "de"})])
    failed.close()
    (block,) = read(failed.path, text="body", id="doc", keep=["lang"])
    assert block.rows == [Row("a", "long", {"lang": "de"})]


@pytest.mark.parametrize(
    ("uri", "library", "extra"), [("a.parquet", "pyarrow", "parquet"), ("postgresql://a/b", "psycopg", "postgres")]
)
def test_a_library_that_is_not_installed_is_named_with_its_extra(
    uri: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says how to get it."""
    monkeypatch.delitem(sys.modules, f"embedmq.bulk.sources.{extra}", raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(SourceRefused, match=rf"needs {library}, .*: pip install 'embedmq\[{extra}\]'"):
        make_source(uri, Columns())


MEASURE = """
import resource, sys
from embedmq.bulk.adapters import make_source
from embedmq.bulk.rows import Columns
source = make_source(sys.argv[1], Columns())
source.open()
rows = 0
for block in source.read(None):
    rows += len(block.rows)
    if rows == 512 * 10:
        early = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - early)
"""


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_memory_stays_while_a_large_file_is_read(kind: str, tmp_path: Path) -> None:
    """50 MB of texts, for Parquet in one row group, grow the process by less than a fifth of that."""
    path, count = tmp_path / f"docs.{kind}", 20_000
    words = random.Random(7).randbytes(5_000).hex()
    texts = [f"{i} {words[i % 7_000 : i % 7_000 + 2_500]}" for i in range(count)]
    if kind == "jsonl":
        path.write_text("".join(f'{{"id": {i}, "text": "{text}"}}\n' for i, text in enumerate(texts)))
    else:
        table = pa.table({"id": list(range(count)), "text": texts})
        pq.write_table(table, path, row_group_size=count, use_dictionary=False, compression="none")
    out = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True).stdout
    assert int(out.split()[0]) == count
    assert int(out.split()[1]) < 10_000
