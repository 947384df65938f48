"""What do the tests of database sinks write, and what is in the stores? As a program: the writer that is killed."""

from __future__ import annotations

import asyncio
import base64
import signal
import sys
from collections.abc import Iterable, Mapping

import msgspec
import numpy as np
from embedmq.bulk.adapters import make_sink
from embedmq.bulk.ports import Sink
from embedmq.bulk.rows import Columns, Scalar, Shape, Vectors, content_hash
from embedmq_local.stack import Stack
from embedmq_schemas.vectors import Array

from tests.worker.world import World

JOB = "nightly"
COLUMNS = Columns(keep=("title", "pages"))
SHAPE = Shape(dimensions=4, model="minilm", revision="r1", keep=COLUMNS.keep)


class Stored(msgspec.Struct, frozen=True):
    """One row of a store."""

    id: str
    vector: list[float]
    hash: bytes
    title: Scalar


def rows(numbers: Iterable[int], version: str = "first", shape: Shape = SHAPE) -> Vectors:
    """Rows whose vectors, titles and hashes tell number and version; the vectors have length 1 and fit float16."""
    ids = [f"doc/{number}'s" for number in numbers]
    dense: Array = np.zeros((len(ids), shape.dimensions), shape.dtype)
    for row, id in enumerate(ids):
        dense[row, len(id + version) % shape.dimensions] = 1
    hashes = [content_hash(b"", id + version) for id in ids]
    return Vectors(ids, hashes, dense, [{"title": f"{version} of {id}", "pages": 7} for id in ids])


def expected(vectors: Vectors) -> dict[str, Stored]:
    """What a store has of these rows, by id."""
    return {
        id: Stored(id, dense.tolist(), hash, kept["title"])
        for id, dense, hash, kept in zip(vectors.ids, vectors.dense, vectors.hashes, vectors.kept, strict=True)
    }


def opened(uri: str, shape: Shape = SHAPE) -> Sink:
    """A sink that has begun the job."""
    sink = make_sink(uri, COLUMNS)
    try:
        sink.open(JOB, shape)
    except BaseException:
        sink.close()
        raise
    return sink


def stored(uri: str, stack: Stack) -> list[Stored]:
    """Everything that is in a store, in the order of a log where it is one."""
    readers = {"postgresql": stored_rows, "qdrant": _qdrant, "lancedb": _lancedb}
    scheme = uri.partition(":")[0]
    return asyncio.run(_kafka(uri, stack)) if scheme == "kafka" else readers[scheme](uri)


def stored_rows(uri: str) -> list[Stored]:
    """Those of a table of PostgreSQL."""
    import psycopg

    with psycopg.connect(uri.replace("&table=docs", "")) as connection:
        query = "select id::text, embedding::real[], content_hash, title from docs"
        return [Stored(*row) for row in connection.execute(query).fetchall()]


def _qdrant(uri: str) -> list[Stored]:
    from qdrant_client import QdrantClient

    client = QdrantClient(path=uri.removeprefix("qdrant://").partition("?")[0])
    points, _ = client.scroll("docs", limit=1_000, with_vectors=True)
    client.close()
    found = []
    for point in points:
        payload: Mapping[str, str] = point.payload or {}
        vector = msgspec.convert(point.vector, list[float])
        found.append(Stored(payload["id"], vector, bytes.fromhex(payload["content_hash"]), payload["title"]))
    return found


def _lancedb(uri: str) -> list[Stored]:
    import lancedb

    table = lancedb.connect(uri.removeprefix("lancedb://").partition("?")[0]).open_table("docs").to_arrow()
    columns = (table[name].to_pylist() for name in ("id", "vector", "content_hash", "title"))
    return [Stored(*row) for row in zip(*columns, strict=True)]


async def _kafka(uri: str, stack: Stack) -> list[Stored]:
    async with World(stack.kafka, stack.redis) as world:
        records = await world.records(uri.rpartition("/")[2].partition("?")[0])
    found = []
    for record in records:
        value = msgspec.json.decode(record.value or b"")
        assert record.key == value["id"].encode()
        vector = np.frombuffer(base64.b64decode(value["vector"]["data"]), "<f4").tolist()
        found.append(Stored(value["id"], vector, bytes.fromhex(value["hash"]), value["title"]))
    return found


def write_and_wait(uris: Iterable[str]) -> None:
    """Commit ten rows to each, write ten more over half of them without a commit, and wait to be killed."""
    sinks = [opened(uri) for uri in uris]
    for sink in sinks:
        sink.write(rows(range(10)))
        sink.commit(b"ten")
        sink.write(rows(range(5, 15), "second"))
    print("written", flush=True)
    signal.pause()


if __name__ == "__main__":
    write_and_wait(sys.argv[1:])
