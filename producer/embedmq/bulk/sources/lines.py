"""How is a file read by lines, of bounded size, so that reading can go on at any of them?"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import BinaryIO, Final, Self, cast

from msgspec import Struct

from embedmq.bulk.errors import SourceRefused
from embedmq.bulk.rows import Position
from embedmq.bulk.sources.fields import MAX_ROW_BYTES
from embedmq.bulk.sources.files import RESTART, File, Opened, following, unreadable
from embedmq.bulk.sources.positions import from_position, to_position

MARK_BYTES: Final = 512
"""Of a file's beginning and of what stands before a position, so much is compared before reading goes on."""

_GZIP = b"\x1f\x8b"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class Place(Struct, frozen=True):
    """Where reading goes on: in which file, at which byte of its (uncompressed) content, after how many lines."""

    file: str
    passed: str
    byte: int
    lines: int
    mark: str


class Oversized(Struct, frozen=True):
    """A line longer than `MAX_ROW_BYTES`, of which only beginning and end are held."""

    length_bytes: int
    head: bytes
    tail: bytes


Line = bytes | Oversized


class Lines:
    """The lines of one file, gzip or not. What was read counts once it is accepted; till then it can be put back."""

    def __init__(self, opened: Opened) -> None:
        self.file = opened.file
        self.byte = 0
        """Of the next line, in the uncompressed content."""
        self.lines = 0
        """Line feeds before it."""
        self._passed = opened.passed
        self._head = b""
        self._tail = b""
        self._back: deque[Line] = deque()
        try:
            raw = self.file.path.open("rb")
        except OSError as error:
            raise unreadable(self.file, error) from error
        start = raw.peek(2)[:2]
        if start in _UTF16:
            raw.close()
            raise SourceRefused(f"{self.file.path} is UTF-16: convert it, for example iconv -f UTF-16 -t UTF-8")
        self._raw = raw
        self._content = cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if start == _GZIP else raw

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._content.close()
        self._raw.close()

    def read(self) -> Line:
        """The next line with its end; empty at the end of the file. Raises SourceRefused where it cannot be read."""
        if self._back:
            return self._back.popleft()
        try:
            line = self._content.readline(MAX_ROW_BYTES + 1)
            return line if len(line) <= MAX_ROW_BYTES else self._pass_over(line)
        except (OSError, EOFError, zlib.error) as error:
            raise unreadable(self.file, error) from error

    def accept(self, line: Line) -> None:
        """Be done with a line."""
        if isinstance(line, bytes):
            length, head, tail = len(line), line, line
        else:
            length, head, tail = line.length_bytes, line.head, line.tail
        self.byte += length
        self.lines += tail.endswith(b"\n")
        if len(self._head) < MARK_BYTES:
            self._head += head[: MARK_BYTES - len(self._head)]
        self._tail = _end(self._tail, tail)

    def put_back(self, lines: Sequence[Line]) -> None:
        """Have these, the last that were read, come again."""
        self._back.extendleft(reversed(lines))

    def position(self) -> Position:
        """Behind what was accepted."""
        return to_position(Place(self.file.name, self._passed, self.byte, self.lines, _mark(self._head, self._tail)))

    def go_on(self, place: Place) -> None:
        """Stand where a position says; raises SourceRefused where the file is not what it was up to there."""
        try:
            self._head = self._content.read(min(place.byte, MARK_BYTES))
            self._content.seek(max(0, place.byte - MARK_BYTES))
            self._tail = self._content.read(min(place.byte, MARK_BYTES))
        except (OSError, EOFError, zlib.error) as error:
            raise unreadable(self.file, error) from error
        if _mark(self._head, self._tail) != place.mark:
            at = f"line {place.lines + 1}"
            raise SourceRefused(f"{self.file.path} has changed since it was read up to {at}. {RESTART}")
        self.byte, self.lines = place.byte, place.lines

    def _pass_over(self, line: bytes) -> Oversized:
        length, head, tail = len(line), line[:MARK_BYTES], line[-MARK_BYTES:]
        while not tail.endswith(b"\n") and (more := self._content.readline(MAX_ROW_BYTES)):
            length, tail = length + len(more), _end(tail, more)
        return Oversized(length, head, tail)


def read_files(files: Sequence[File], after: Position | None) -> Iterator[Lines]:
    """The files behind a position, each open until the next one is asked for; raises SourceRefused."""
    place = None if after is None else from_position(after, Place)
    name, passed = (None, "") if place is None else (place.file, place.passed)
    for opened in following(files, name, passed):
        with Lines(opened) as lines:
            if place is not None and opened.file.name == place.file:
                lines.go_on(place)
            yield lines


def _end(before: bytes, data: bytes) -> bytes:
    """The last `MARK_BYTES` of both together."""
    return data[-MARK_BYTES:] if len(data) >= MARK_BYTES else (before + data)[-MARK_BYTES:]


def _mark(head: bytes, tail: bytes) -> str:
    return hashlib.blake2b(head + tail, digest_size=8).hexdigest()
