"""What do the tests of file sinks share: rows to write, readers that know nothing of us, and a disk that stops."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
from embedmq.bulk.rows import BulkDtype, Columns, Scalar, Shape, Vectors, content_hash
from embedmq.bulk.sinks.folder.sink import FolderSink
from embedmq.bulk.sinks.jsonl import JsonlSink
from embedmq.bulk.sinks.numpy import NumpySink
from embedmq.bulk.sinks.parquet import ParquetSink

KINDS = ("parquet", "jsonl", "npy")
KEEP = ("title", "year")
SHAPE = Shape(dimensions=4, model="minilm", revision="abc", keep=KEEP)
IN_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
"""A disk that never waits: what a killed process leaves there is the same."""
STEPS = ("fsync", "replace", "unlink", "mkdir")


def make(folder: Path | str, keep: tuple[str, ...] = KEEP) -> FolderSink:
    kind = str(folder).rpartition(".")[2]
    made = {"parquet": ParquetSink, "jsonl": JsonlSink, "npy": NumpySink}[kind]
    return made(str(folder), Columns(keep=keep))


def opened(folder: Path, job: str = "nightly", shape: Shape = SHAPE) -> FolderSink:
    sink = make(folder, shape.keep)
    try:
        sink.open(job, shape)
    except BaseException:
        sink.close()
        raise
    return sink


def numbers(id: str, version: int, dimensions: int = 4) -> list[float]:
    return [float(np.float32(1 / (3 + version + k + len(id)))) for k in range(dimensions)]


def hash_of(id: str, version: int) -> bytes:
    return content_hash(b"settings", f"{id} {version}")


def vectors(
    rows: Mapping[str, int] | Iterable[str],
    dimensions: int = 4,
    dtype: BulkDtype = "float32",
    kept: Mapping[str, Scalar] | None = None,
) -> Vectors:
    """A block of ids, each in a version that its numbers and its hash tell."""
    versions = dict(rows) if isinstance(rows, Mapping) else dict.fromkeys(rows, 0)
    return Vectors(
        ids=list(versions),
        hashes=[hash_of(id, version) for id, version in versions.items()],
        dense=np.array([numbers(*row, dimensions) for row in versions.items()], dtype).reshape(-1, dimensions),
        kept=[
            {"title": f"{id} v{version}", "year": version} if kept is None else kept for id, version in versions.items()
        ],
    )


def read_plainly(folder: Path) -> list[tuple[str, list[float]]]:
    """What readers that know nothing of us find: pyarrow, json, numpy."""
    match folder.suffix:
        case ".parquet":
            table = ds.dataset(folder).to_table(["id", "vector"])
            return list(zip(table["id"].to_pylist(), table["vector"].to_pylist(), strict=True))
        case ".jsonl":
            lines = [line for part in sorted(folder.glob("part-*.jsonl")) for line in part.read_text().splitlines()]
            return [(row["id"], row["vector"]) for row in map(json.loads, lines)]
    found: list[tuple[str, list[float]]] = []
    for part in sorted(folder.glob("part-*.npy")):
        ids = [json.loads(line)["id"] for line in part.with_suffix(".ids.jsonl").read_text().splitlines()]
        found += zip(ids, np.load(part).tolist(), strict=True)
    return found


def assert_holds(folder: Path, rows: Mapping[str, int]) -> None:
    """These ids, each once, in these versions, and not a file more than parts and what begins with `_`."""
    found = read_plainly(folder)
    assert sorted(id for id, _ in found) == sorted(rows)
    for id, row in found:
        assert np.array_equal(np.array(row, "f4"), np.array(numbers(id, rows[id]), "f4")), id
    assert not [name for name in os.listdir(folder) if not name.startswith(("part-", "_embedmq."))]


class Disk:
    """Counts what must happen in order on a disk, and at a chosen step does `fault` instead of it.

    What a process has handed to the operating system outlives it, so a sync is counted, and not waited for.
    """

    def __init__(self, patch: Callable[[object, str, object], None]) -> None:
        self.left: int | None = None
        self.fault: Callable[[], None] = lambda: None
        for name in STEPS:
            patch(os, name, self._watched(getattr(os, name) if name != "fsync" else lambda _: None))

    def stop_after(self, steps: int, fault: Callable[[], None]) -> None:
        self.left, self.fault = steps, fault

    def heal(self) -> None:
        self.left = None

    def _watched(self, real: Callable[..., object]) -> Callable[..., object]:
        def step(*args: object, **options: object) -> object:
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    self.fault()
            return real(*args, **options)

        return step
