"""How does a folder hold vectors as JSON, one object a line: id, kept columns, vector?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from embedmq.bulk.rows import Columns, Scalar, Shape, Vectors
from embedmq.bulk.sinks.folder.lines import LineWriter, read_blocks, shortest
from embedmq.bulk.sinks.folder.manifest import Kind
from embedmq.bulk.sinks.folder.parts import PartWriter
from embedmq.bulk.sinks.folder.sink import FolderSink


class JsonlSink(FolderSink):
    """`vectors.jsonl/part-*.jsonl`."""

    def __init__(self, uri: str, columns: Columns) -> None:
        super().__init__(uri, columns, JsonlFormat())


class _Key(Struct):
    id: str
    content_hash: str


class _Row(_Key):
    vector: list[float]


class JsonlFormat:
    kind: Kind = "jsonl"
    suffixes: tuple[str, ...] = (".jsonl",)

    def writer(self, files: Sequence[Path], shape: Shape) -> PartWriter:
        return _Writer(files[0], shape.keep)

    def read(self, files: Sequence[Path], shape: Shape) -> Iterator[Vectors]:
        row, kept = msgspec.json.Decoder(_Row), msgspec.json.Decoder(dict[str, msgspec.Raw])
        scalar = msgspec.json.Decoder(Scalar)

        def decode(line: bytes) -> tuple[_Row, dict[str, Scalar]]:
            fields = kept.decode(line) if shape.keep else {}
            return row.decode(line), {name: scalar.decode(fields[name]) for name in shape.keep}

        for block in read_blocks(files[0], decode):
            yield Vectors(
                ids=[key.id for key, _ in block],
                hashes=[bytes.fromhex(key.content_hash) for key, _ in block],
                dense=np.array([key.vector for key, _ in block], dtype=shape.dtype),
                kept=[values for _, values in block],
            )

    def read_ids(self, files: Sequence[Path]) -> Iterator[tuple[Sequence[str], Sequence[bytes]]]:
        for block in read_blocks(files[0], msgspec.json.Decoder(_Key).decode):
            yield [key.id for key in block], [bytes.fromhex(key.content_hash) for key in block]


class _Writer:
    def __init__(self, path: Path, keep: Sequence[str]) -> None:
        self._lines = LineWriter(path)
        self._keep = keep
        self.close = self._lines.close
        self.abandon = self._lines.abandon

    def write(self, vectors: Vectors) -> None:
        columns = zip(vectors.ids, vectors.kept, vectors.hashes, shortest(vectors.dense), strict=True)
        self._lines.write(
            [
                {
                    "id": id,
                    **{name: kept.get(name) for name in self._keep},
                    "content_hash": content.hex(),
                    "vector": vector,
                }
                for id, kept, content, vector in columns
            ]
        )
