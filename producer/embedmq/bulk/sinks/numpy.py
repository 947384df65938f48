"""How does a folder hold vectors as NumPy arrays, each with its ids beside it?

Row `i` of `part-00000.npy` belongs to line `i` of `part-00000.ids.jsonl`, which has the kept columns, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from embedmq.bulk.rows import Columns, Scalar, Shape, Vectors
from embedmq.bulk.sinks.folder.disk import abandon
from embedmq.bulk.sinks.folder.lines import LineWriter, read_blocks
from embedmq.bulk.sinks.folder.manifest import Kind
from embedmq.bulk.sinks.folder.parts import PartWriter
from embedmq.bulk.sinks.folder.sink import FolderSink


class NumpySink(FolderSink):
    """`vectors.npy/part-*.npy` and `vectors.npy/part-*.ids.jsonl`."""

    def __init__(self, uri: str, columns: Columns) -> None:
        super().__init__(uri, columns, NumpyFormat())


class NumpyFormat:
    kind: Kind = "npy"
    suffixes: tuple[str, ...] = (".npy", ".ids.jsonl")

    def writer(self, files: Sequence[Path], shape: Shape) -> PartWriter:
        return _Writer(files[0], files[1], shape)

    def read(self, files: Sequence[Path], shape: Shape) -> Iterator[Vectors]:
        dense = np.load(files[0], mmap_mode="r")
        start = 0
        for block in _keys(files[1]):
            rows = np.array(dense[start : start + len(block)])
            start += len(block)
            yield Vectors(
                ids=[str(key["id"]) for key in block],
                hashes=[bytes.fromhex(str(key["content_hash"])) for key in block],
                dense=rows,
                kept=[{name: key[name] for name in shape.keep} for key in block],
            )

    def read_ids(self, files: Sequence[Path]) -> Iterator[tuple[Sequence[str], Sequence[bytes]]]:
        for block in _keys(files[1]):
            yield [str(key["id"]) for key in block], [bytes.fromhex(str(key["content_hash"])) for key in block]


def _keys(path: Path) -> Iterator[list[Mapping[str, Scalar]]]:
    return read_blocks(path, msgspec.json.Decoder(Mapping[str, Scalar]).decode)


class _Writer:
    def __init__(self, array: Path, ids: Path, shape: Shape) -> None:
        self._keep = shape.keep
        self._type = np.dtype(shape.dtype).newbyteorder("<")
        self._dimensions = shape.dimensions
        self._rows = 0
        self._array = open(array, "wb")  # noqa: SIM115 - until `close` or `abandon`
        self._lines = LineWriter(ids)
        self._header()

    def write(self, vectors: Vectors) -> None:
        self._array.write(np.ascontiguousarray(vectors.dense, dtype=self._type).data)
        self._lines.write(
            [
                {"id": id, **{name: kept.get(name) for name in self._keep}, "content_hash": content.hex()}
                for id, kept, content in zip(vectors.ids, vectors.kept, vectors.hashes, strict=True)
            ]
        )
        self._rows += len(vectors)

    def close(self) -> None:
        self._array.seek(0)
        self._header()  # as long as the first one: NumPy leaves room for the number of rows to grow
        self._array.close()
        self._lines.close()

    def abandon(self) -> None:
        abandon(self._array)
        self._lines.abandon()

    def _header(self) -> None:
        shape = (self._rows, self._dimensions)
        header = {"descr": np.lib.format.dtype_to_descr(self._type), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._array, header)
