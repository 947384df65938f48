"""How are rows read from files of comma-separated values?"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct

from embedmq.bulk.errors import SourceRefused
from embedmq.bulk.ports import Repeats
from embedmq.bulk.rows import Block, Columns, Flaw, Position, Row
from embedmq.bulk.sources.blocks import Pile
from embedmq.bulk.sources.fields import MAX_ROW_BYTES, read_row, settle
from embedmq.bulk.sources.files import File, Opened, find_files
from embedmq.bulk.sources.lines import Line, Lines, read_files

ENDINGS: Final = (".csv", ".csv.gz")
DELIMITERS: Final = ",;\t"


class CsvSource:
    """CSV with a header in a file, the files of a glob, or those of a folder, sorted by name; gzip or not.

    Quoted as RFC 4180 has it: a quote inside quotes is doubled, and quoted fields may hold line feeds. Fields are
    separated by what separates the header's: commas, semicolons or tabs. CSV knows no null, so an empty field is one. A
    record that is broken, or larger than `MAX_ROW_BYTES`, is a flaw, and reading goes on at the line behind its first.
    Without an id column the number of a record's first line is the id, with the file's name where there may be several.
    """

    repeats: Repeats = "flaw"

    def __init__(self, uri: str, columns: Columns) -> None:
        self._uri = uri
        self._columns = columns
        self._files: list[File] = []

    def open(self) -> None:
        """Find the files, and each named column in the header of each."""
        # A limit of the whole process, far below ours; the size of a record is bounded here, by its lines.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_BYTES))
        self._files = find_files(self._uri, ENDINGS)
        settled = {header.settled for file in self._files if (header := _header(file, self._columns)) is not None}
        if len(settled) > 1:
            raise SourceRefused(f"{self._uri}: only some of the files have a column 'id': name one with --id")

    def count(self) -> None:
        """Unknown before the last line is read."""

    def read(self, after: Position | None) -> Iterator[Block]:
        """The rows behind a position, or all."""
        pile, position = Pile(), after
        for lines in read_files(self._files, after):
            for found, where in self._found(lines):
                pile.add(found, where)
                if pile.full:
                    yield pile.take(lines.position())
            position = lines.position()
        if pile and position is not None:
            yield pile.take(position)

    def close(self) -> None:
        """Each file is closed when it was read."""

    def _found(self, lines: Lines) -> Iterator[tuple[Row | Flaw, str]]:
        header = _header(lines.file, self._columns)
        if header is None:
            return
        if lines.byte == 0:
            _Records(lines, header.delimiter).read()
        records = _Records(lines, header.delimiter)
        while (record := records.read()) is not None:
            line, found = record
            where = f"{lines.file.name} line {line}"
            if isinstance(found, Flaw):
                yield Flaw(where, found.code, found.message), where
            elif found:
                yield _row(header, found, where, lines.file.number(line)), where


class _Header(Struct, frozen=True):
    names: tuple[str, ...]
    delimiter: str
    settled: Columns


class _TooLarge(Exception):
    """A record goes on and on."""


class _Records:
    """The records of a file, each with the number of its first line."""

    def __init__(self, lines: Lines, delimiter: str) -> None:
        self._lines = lines
        self._delimiter = delimiter

    def read(self) -> tuple[int, list[str] | Flaw] | None:
        """The next record, or why there is none of these lines; None at the end."""
        taken: list[Line] = []
        first = self._lines.lines + 1
        try:
            # A reader for each record: one that met an error cannot go on.
            found: list[str] | Flaw = next(csv.reader(self._texts(taken), delimiter=self._delimiter, strict=True))
        except StopIteration:
            return None
        except _TooLarge:
            hint = "is a quote not closed?" if len(taken) > 1 else "it is one line"
            found = Flaw("", "too_large", f"the record has more than {MAX_ROW_BYTES} bytes, which are not read; {hint}")
        except UnicodeDecodeError as error:
            found = Flaw("", "malformed", f"not UTF-8: {error.reason} ({error.object[error.start]:#04x})")
        except csv.Error as error:
            found = Flaw("", "malformed", f"not CSV: {error}")
        if isinstance(found, Flaw):
            self._lines.put_back(taken[1:])
            del taken[1:]
        for line in taken:
            self._lines.accept(line)
        return first, found

    def _texts(self, taken: list[Line]) -> Iterator[str]:
        size = 0
        while line := self._lines.read():
            taken.append(line)
            size += len(line) if isinstance(line, bytes) else line.length_bytes
            if not isinstance(line, bytes) or size > MAX_ROW_BYTES:
                raise _TooLarge
            yield line.decode("utf-8-sig" if self._lines.byte == 0 else "utf-8")


def _header(file: File, columns: Columns) -> _Header | None:
    """The header of a file, None where that is empty; raises SourceRefused where it lacks a named column."""
    names, delimiter, reason = list[str](), ",", ""
    for candidate in DELIMITERS:
        with Lines(Opened(file, "")) as lines:
            record = _Records(lines, candidate).read()
        if record is None:
            return None
        if isinstance(record[1], Flaw):
            reason = reason or record[1].message
        elif len(record[1]) > len(names):
            names, delimiter = record[1], candidate
    if not names:
        raise SourceRefused(f"{file.path}: its first line is no header: {reason or 'it is empty'}")
    settled = settle(columns, names, str(file.path))
    for name in (settled.text, settled.id, *settled.keep):
        if name is not None and names.count(name) > 1:
            raise SourceRefused(f"{file.path} has {names.count(name)} columns {name!r}: only one may be called so")
    return _Header(tuple(names), delimiter, settled)


def _row(header: _Header, found: list[str], where: str, number: str) -> Row | Flaw:
    if len(found) != len(header.names):
        message = f"{len(found)} fields, where the header has {len(header.names)}: is a comma or a quote amiss?"
        return Flaw(where, "malformed", message)
    fields: Mapping[str, object] = {name: field or None for name, field in zip(header.names, found, strict=True)}
    return read_row(header.settled, fields, where, number)
