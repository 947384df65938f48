"""How do vectors look as rows of Arrow, by id?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from embedmq.bulk.errors import SinkRefused
from embedmq.bulk.rows import Shape, Vectors
from embedmq.bulk.sinks.kept import as_text

OWN: Final = frozenset({"id", "vector", "content_hash"})
_NUMBERS: Final = {"float32": pa.float32(), "float16": pa.float16()}


def fields(shape: Shape) -> pa.Schema:
    """The columns of a new table."""
    vector = pa.list_(_NUMBERS[shape.dtype], shape.dimensions)
    kept = [pa.field(name, pa.string()) for name in shape.keep]
    return pa.schema([("id", pa.string()), ("vector", vector), ("content_hash", pa.binary()), *kept])


def refuse_mismatch(where: str, found: pa.Schema, shape: Shape) -> None:
    """Raise SinkRefused where a table's columns cannot take the vectors; it may lack some of them, but not `id`."""
    if "id" not in found.names:
        raise SinkRefused(f"{where} has no column id, by which rows are replaced: name another table")
    for field in fields(shape):
        if field.name in found.names and found.field(field.name).type != field.type:
            has, wants = found.field(field.name).type, field.type
            raise SinkRefused(f"column {field.name} of {where} is {has}, the job's is {wants}: name another table")


def merged(parts: Sequence[Vectors], shape: Shape) -> pa.Table:
    """Rows of several writes, each id once, as it came last."""
    ids = [id for part in parts for id in part.ids]
    last = sorted({id: row for row, id in enumerate(ids)}.values())
    dense = np.concatenate([part.dense for part in parts])[last]
    hashes = [hash for part in parts for hash in part.hashes]
    kept = [row for part in parts for row in part.kept]
    schema = fields(shape)
    columns = [
        pa.array([ids[row] for row in last], pa.string()),
        pa.FixedSizeListArray.from_arrays(pa.array(dense.ravel()), type=schema.field("vector").type),
        pa.array([hashes[row] for row in last], pa.binary()),
        *(pa.array([as_text(kept[row].get(name)) for row in last], pa.string()) for name in shape.keep),
    ]
    return pa.table(columns, schema=schema)
