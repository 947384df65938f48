"""How are rows read from Parquet files?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct
from msgspec.structs import replace

from embedmq.bulk.errors import SourceRefused
from embedmq.bulk.ports import Repeats
from embedmq.bulk.rows import MAX_BLOCK_ROWS, Block, Columns, Position
from embedmq.bulk.sources.blocks import BLOCK_CHARS, Pile
from embedmq.bulk.sources.fields import read_row, settle
from embedmq.bulk.sources.files import RESTART, File, find_files, following, unreadable
from embedmq.bulk.sources.positions import from_position, to_position

ENDINGS: Final = (".parquet", ".pq")
READ_AHEAD_BYTES: Final = 1_048_576
"""Of each column so much is read at once, however large a row group is."""


class ParquetSource:
    """Parquet in a file, the files of a glob, or those of a folder as Spark writes it, sorted by name.

    Only the columns that are needed are read, a few hundred rows at a time. Without an id column the row's number, from
    1, is the id, with the file's name where there may be several.
    """

    repeats: Repeats = "flaw"

    def __init__(self, uri: str, columns: Columns) -> None:
        self._uri = uri
        self._columns = columns
        self._files: list[File] = []
        self._rows = 0

    def open(self) -> None:
        """Find the files, and in each the named columns with types that can be a text and an id."""
        self._files, self._rows = find_files(self._uri, ENDINGS), 0
        settled: set[Columns] = set()
        for file in self._files:
            with _open(file) as opened:
                self._rows += opened.metadata.num_rows
                settled.add(_check(file, opened.schema_arrow, self._columns))
        if len(settled) > 1:
            raise SourceRefused(f"{self._uri}: only some of the files have a column 'id': name one with --id")
        (self._columns,) = settled

    def count(self) -> int:
        """The rows of all files, by their footers."""
        return self._rows

    def read(self, after: Position | None) -> Iterator[Block]:
        """The rows behind a position, or all."""
        place = None if after is None else from_position(after, _Place)
        name, passed = (None, "") if place is None else (place.file, place.passed)
        pile, position = Pile(), after
        for file, digest in ((opened.file, opened.passed) for opened in following(self._files, name, passed)):
            with _open(file) as opened:
                here = _Place(file.name, digest, 0, opened.metadata.num_rows, file.path.stat().st_size)
                if place is not None and file.name == place.file:
                    here = _same(here, place, file)
                for row, fields in _records(opened, file, _needed(self._columns), here.row):
                    where = f"{file.name} row {row}"
                    pile.add(read_row(self._columns, fields, where, file.number(row)), where)
                    if pile.full:
                        yield pile.take(to_position(replace(here, row=row)))
                position = to_position(replace(here, row=here.rows))
        if pile and position is not None:
            yield pile.take(position)

    def close(self) -> None:
        """Each file is closed when it was read."""


class _Place(Struct, frozen=True):
    """Where reading goes on: in which file, after how many of its rows; the rest tells whether it is the same file."""

    file: str
    passed: str
    row: int
    rows: int
    bytes: int


def _same(here: _Place, place: _Place, file: File) -> _Place:
    if (here.rows, here.bytes) != (place.rows, place.bytes):
        raise SourceRefused(f"{file.path} has changed since it was read up to row {place.row}. {RESTART}")
    return place


def _open(file: File) -> Any:  # pyarrow has no types
    try:
        return pq.ParquetFile(file.path, buffer_size=READ_AHEAD_BYTES, pre_buffer=False)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(file, error) from error


def _check(file: File, schema: Any, columns: Columns) -> Columns:
    """The columns settled; raises SourceRefused where one is missing, or its type can be no text or no id."""
    settled = settle(columns, schema.names, str(file.path))
    text = _plain(schema.field(settled.text).type)
    if not (_is_text(text) or pa.types.is_null(text)):
        raise SourceRefused(f"{file.path}: column {settled.text!r} is {text}, not text: name another with --text")
    if settled.id is not None:
        id = _plain(schema.field(settled.id).type)
        if not (_is_text(id) or pa.types.is_integer(id) or pa.types.is_null(id) or str(id).endswith("uuid>")):
            raise SourceRefused(
                f"{file.path}: column {settled.id!r} is {id}, which is no id: it wants text or whole numbers (--id)"
            )
    return settled


def _plain(type: Any) -> Any:
    return type.value_type if pa.types.is_dictionary(type) else type


def _is_text(type: Any) -> bool:
    return bool(pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type))


def _needed(columns: Columns) -> list[str]:
    return list(dict.fromkeys([columns.text, *([columns.id] if columns.id else []), *columns.keep]))


def _records(opened: Any, file: File, names: Sequence[str], after: int) -> Iterator[tuple[int, dict[str, object]]]:
    """The rows after so many, each with its number from 1 and its fields by name."""
    groups, before = _groups(opened.metadata, after)
    row = before
    try:
        for batch in opened.iter_batches(_batch_rows(opened.metadata, names), row_groups=groups, columns=list(names)):
            skipped = min(max(0, after - row), batch.num_rows)
            row += skipped
            values = [_values(batch.column(name).slice(skipped)) for name in names]
            for fields in zip(*values, strict=True):
                row += 1
                yield row, dict(zip(names, fields, strict=True))
    except (OSError, pa.ArrowException) as error:
        raise unreadable(file, error) from error


def _groups(metadata: Any, after: int) -> tuple[list[int], int]:
    """The row groups that are not wholly among the first `after` rows, and how many rows stand before them."""
    end, first, before = 0, metadata.num_row_groups, 0
    for group in range(metadata.num_row_groups):
        end += metadata.row_group(group).num_rows
        if end > after:
            first = group
            break
        before = end
    return list(range(first, metadata.num_row_groups)), before


def _batch_rows(metadata: Any, names: Sequence[str]) -> int:
    """So many that the columns of a batch have about as many bytes as a block has characters."""
    widest = 1.0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        columns = (group.column(i) for i in range(group.num_columns))
        size = sum(c.total_uncompressed_size for c in columns if c.path_in_schema.partition(".")[0] in names)
        widest = max(widest, size / max(1, group.num_rows))
    return max(1, min(MAX_BLOCK_ROWS, int(BLOCK_CHARS / widest)))


def _values(column: Any) -> list[object]:
    plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    try:
        return cast("list[object]", plain.to_pylist())
    except ValueError:  # one of them is nothing that Python could have
        return [_value(scalar) for scalar in plain]


def _value(scalar: Any) -> object:
    """A value: as bytes what should be text and is not UTF-8, as text a time in nanoseconds."""
    try:
        return cast("object", scalar.as_py())
    except UnicodeDecodeError:
        return cast("object", scalar.as_buffer().to_pybytes())
    except ValueError:
        return cast("object", scalar.cast(pa.string()).as_py())
