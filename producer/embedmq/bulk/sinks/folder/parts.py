"""What must a file format bring, so that a folder of parts can be made of it?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from embedmq.bulk.rows import Shape, Vectors
from embedmq.bulk.sinks.folder.manifest import Kind, Part
from embedmq.bulk.sinks.folder.names import hidden_name, part_name

READ_ROWS = 2048
"""Rows that are in memory at once when a part is read."""


class PartWriter(Protocol):
    """Writes the files of one part. All methods but `abandon` raise OSError."""

    def write(self, vectors: Vectors) -> None:
        """Take rows; only a bounded number of them may stay in memory."""

    def close(self) -> None:
        """Hand all of it to the operating system."""

    def abandon(self) -> None:
        """Let go of the files as they are; raises nothing."""


class Format(Protocol):
    """A file format; `suffixes` are the endings of the files that make up one part."""

    kind: Kind
    suffixes: tuple[str, ...]

    def writer(self, files: Sequence[Path], shape: Shape) -> PartWriter:
        """Begin a part; raises OSError."""
        ...

    def read(self, files: Sequence[Path], shape: Shape) -> Iterator[Vectors]:
        """All rows of a part in order, `READ_ROWS` at a time."""
        ...

    def read_ids(self, files: Sequence[Path]) -> Iterator[tuple[Sequence[str], Sequence[bytes]]]:
        """Ids and content hashes alone."""
        ...


class Draft:
    """A part that is being written, under a hidden name."""

    def __init__(self, folder: Path, format: Format, shape: Shape, number: int, generation: int) -> None:
        self.number = number
        self.rows = 0
        self._generation = generation
        names = [part_name(number, suffix) for suffix in format.suffixes]
        self._files = {name: folder / hidden_name(name, generation) for name in names}
        self._writer = format.writer(list(self._files.values()), shape)

    def write(self, vectors: Vectors) -> None:
        self._writer.write(vectors)
        self.rows += len(vectors)

    def finish(self) -> Part:
        self._writer.close()
        files = {name: path.stat().st_size for name, path in self._files.items()}
        return Part(number=self.number, generation=self._generation, rows=self.rows, files=files)

    def abandon(self) -> None:
        self._writer.abandon()


def take(vectors: Vectors, rows: Sequence[int]) -> Vectors:
    """Some rows of a block."""
    if len(rows) == len(vectors):
        return vectors
    return Vectors(
        ids=[vectors.ids[i] for i in rows],
        hashes=[vectors.hashes[i] for i in rows],
        dense=vectors.dense[list(rows)],
        kept=[vectors.kept[i] for i in rows],
    )
