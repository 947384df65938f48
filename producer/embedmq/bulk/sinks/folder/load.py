"""How does a program get all vectors of a folder at once?"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np
from embedmq_schemas.vectors import Array

from embedmq.bulk.errors import SinkRefused
from embedmq.bulk.sinks.folder.manifest import Kind, Manifest, read_manifest
from embedmq.bulk.sinks.folder.names import locate
from embedmq.bulk.sinks.folder.parts import Format

_TRIES = 5


def load_vectors(path: str | PathLike[str]) -> tuple[list[str], Array]:
    """Ids and vectors `(n, d)` of a Parquet, JSONL or NumPy sink, as of its last commit, also while a job writes it.

    Raises:
        SinkRefused: there is no manifest of ours, or parts that it names are missing.
    """
    folder = Path(path)
    for _ in range(_TRIES):
        manifest = _known(folder)
        try:
            loaded = _load(folder, manifest)
        except FileNotFoundError:
            continue  # replaced by a commit while we read
        now = {(part.number, part.generation) for part in _known(folder).parts}
        if all((part.number, part.generation) in now for part in manifest.parts):
            return loaded
    raise SinkRefused(f"{folder} has not the parts of its manifest, or they change all the time: try again later")


def _known(folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    if manifest is None:
        raise SinkRefused(f"{folder} has no vectors written by embedmq: name the folder of a file sink")
    return manifest


def _load(folder: Path, manifest: Manifest) -> tuple[list[str], Array]:
    format = _format(manifest.kind)
    rows = sum(part.rows for part in manifest.parts)
    ids: list[str] = []
    dense = np.empty((rows, manifest.shape.dimensions), manifest.shape.dtype)
    for part in manifest.parts:
        for block in format.read(locate(folder, part), manifest.shape):
            dense[len(ids) : len(ids) + len(block)] = block.dense
            ids.extend(block.ids)
    return ids, dense


def _format(kind: Kind) -> Format:
    match kind:
        case "parquet":
            from embedmq.bulk.sinks.parquet import ParquetFormat

            return ParquetFormat()
        case "jsonl":
            from embedmq.bulk.sinks.jsonl import JsonlFormat

            return JsonlFormat()
        case "npy":
            from embedmq.bulk.sinks.numpy import NumpyFormat

            return NumpyFormat()
