"""How are rows read from files with one JSON object a line?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from embedmq.bulk.errors import SourceRefused
from embedmq.bulk.ports import Repeats
from embedmq.bulk.rows import Block, Columns, Flaw, Position
from embedmq.bulk.sources.blocks import Pile
from embedmq.bulk.sources.fields import MAX_ROW_BYTES, read_row, settle
from embedmq.bulk.sources.files import File, find_files
from embedmq.bulk.sources.lines import Line, read_files

ENDINGS: Final = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
SAMPLE_LINES: Final = 1_000
"""In so many lines at the beginning, each named column must come at least once, and half of them must be objects."""

_BOM = b"\xef\xbb\xbf"
_DECODE: Final = msgspec.json.Decoder(dict[str, object]).decode


class JsonlSource:
    """JSON lines in a file, the files of a glob, or those of a folder, sorted by name; gzip or not.

    A line that is no object, or larger than `MAX_ROW_BYTES`, is a flaw, and reading goes on behind it; empty lines are
    passed over. Without an id column the line's number is the id, with the file's name where there may be several.
    """

    repeats: Repeats = "flaw"

    def __init__(self, uri: str, columns: Columns) -> None:
        self._uri = uri
        self._columns = columns
        self._files: list[File] = []

    def open(self) -> None:
        """Find the files, and each named column in the first `SAMPLE_LINES`."""
        self._files = find_files(self._uri, ENDINGS)
        there: dict[str, None] = {}
        lines = objects = 0
        for fields in itertools.islice(self._sampled(), SAMPLE_LINES):
            lines += 1
            if not isinstance(fields, Flaw):
                objects += 1
                there |= dict.fromkeys(fields)
        if 2 * objects < lines:
            message = f"{self._uri} is no JSONL: of its first {lines} lines {objects} are JSON objects"
            raise SourceRefused(f"{message}. Give each row a line of its own, for example by jq -c '.[]'")
        if objects:
            where = self._uri if lines < SAMPLE_LINES else f"{self._uri}, in its first {lines} lines,"
            self._columns = settle(self._columns, there, where)

    def count(self) -> None:
        """Unknown before the last line is read."""

    def read(self, after: Position | None) -> Iterator[Block]:
        """The rows behind a position, or all."""
        pile, position = Pile(), after
        for lines in read_files(self._files, after):
            while line := lines.read():
                self._add(pile, line, lines.file, lines.lines + 1)
                lines.accept(line)
                if pile.full:
                    yield pile.take(lines.position())
            position = lines.position()
        if pile and position is not None:
            yield pile.take(position)

    def close(self) -> None:
        """Each file is closed when it was read."""

    def _add(self, pile: Pile, line: Line, file: File, row: int) -> None:
        where = f"{file.name} line {row}"
        fields = _fields(line, where)
        if isinstance(fields, Flaw):
            pile.add(fields, where)
        elif fields is not None:
            pile.add(read_row(self._columns, fields, where, file.number(row)), where)

    def _sampled(self) -> Iterator[Mapping[str, object] | Flaw]:
        for lines in read_files(self._files, None):
            while line := lines.read():
                if (fields := _fields(line, "")) is not None:
                    yield fields


def _fields(line: Line, where: str) -> Mapping[str, object] | Flaw | None:
    """The object on a line; None on an empty one."""
    if not isinstance(line, bytes):
        message = f"the line has {line.length_bytes} bytes; at most {MAX_ROW_BYTES} are read"
        return Flaw(where, "too_large", message)
    try:
        return _DECODE(line.removeprefix(_BOM))
    except RecursionError:
        return Flaw(where, "malformed", "its objects are nested too deep")
    except ValueError as error:  # msgspec's own, or that a string is not UTF-8
        return Flaw(where, "malformed", str(error)) if line.strip() else None
