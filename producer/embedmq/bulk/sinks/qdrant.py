"""How do vectors get into Qdrant, a server's or one that lives in a folder?"""

from __future__ import annotations

import base64
import os
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from qdrant_client import QdrantClient, models

from embedmq.bulk.errors import SinkRefused
from embedmq.bulk.rows import Columns, Shape, Vectors
from embedmq.bulk.sinks.address import read_address
from embedmq.bulk.sinks.folder.lock import Lock
from embedmq.bulk.sinks.kept import refuse_collisions
from embedmq.bulk.sinks.qdrant_errors import FAILURES, explain

JOBS: Final = "embedmq_jobs"
"""The collection of checkpoints: points without vectors."""
UPSERT_BYTES: Final = 16 * 1024 * 1024
"""The most that one request says in JSON; a server takes 32 MiB unless it is told otherwise."""
_NUMBER_BYTES: Final = 24
TIMEOUT_S: Final = 60
_NAMESPACE: Final = uuid.UUID("6f0b9c1e-7d0f-5f0e-9a35-0b1d5e6a7c42")
_OWN: Final = frozenset({"id", "content_hash"})
_DATATYPES: Final = {"float32": models.Datatype.FLOAT32, "float16": models.Datatype.FLOAT16}


class QdrantSink:
    """`qdrant://host:6333/collection[?https=1]`, with an API key by `QDRANT_API_KEY`; or `qdrant:///folder?collection=docs`
    for Qdrant inside this process, which is for trials: it holds all vectors in memory.

    A point's id is made of the row's (Qdrant wants numbers or UUIDs); payload: `id`, `content_hash` in hex, and what
    is kept. The checkpoint is a point of the collection `embedmq_jobs`, so that any machine goes on with a job. A
    folder has one writer; a server has no locks: there, only the job's own lock keeps a second process out.
    """

    at_least_once = False

    def __init__(self, uri: str, columns: Columns) -> None:
        del columns  # the shape has what travels along
        address = read_address(uri, "https", "collection")
        embedded = not address.authority
        name = address.options.get("collection") if embedded else address.path.strip("/")
        if not name or "/" in name or (embedded and not address.path.strip("/")):
            wants = "qdrant://host:6333/collection, or qdrant:///path/of/a/folder?collection=docs"
            raise SinkRefused(f"{address.shown} names no collection: write {wants}")
        self._folder = Path(address.path) if embedded else None
        self._url = f"http{'s' if address.options.get('https', '0') != '0' else ''}://{address.authority}"
        self._collection = name
        self._where = f"collection {name} at {address.shown}"
        self._lock: Lock | None = None
        self._client: QdrantClient | None = None
        self._job = ""
        self._shape = Shape(dimensions=0)

    def is_there(self) -> bool:
        """Whether there is such a collection."""
        if self._folder is not None and not self._folder.exists():
            return False
        with self._explained():
            self._client = self._connect()
            found = self._client.collection_exists(self._collection)
        self.close()
        return found

    def open(self, job: str, shape: Shape) -> None:
        """Connect, and make the collections that are missing."""
        refuse_collisions(shape, _OWN, self._where)
        self._job, self._shape = job, shape
        with self._explained():
            client = self._client = self._connect()
            if not client.collection_exists(self._collection):
                params = models.VectorParams(
                    size=shape.dimensions, distance=models.Distance.COSINE, datatype=_DATATYPES[shape.dtype]
                )
                client.create_collection(self._collection, vectors_config=params)
            if not client.collection_exists(JOBS):
                client.create_collection(JOBS, vectors_config={})
            self._check(client.get_collection(self._collection).config.params.vectors)

    def load(self) -> bytes | None:
        """The checkpoint of this job."""
        with self._explained():
            found = self._opened().retrieve(JOBS, [_point(self._job)])
        return base64.b64decode((found[0].payload or {})["checkpoint"]) if found else None

    def hashes(self, ids: Sequence[str]) -> Mapping[str, bytes | None]:
        """By one request."""
        with self._explained():
            found = self._opened().retrieve(self._collection, [_point(id) for id in ids], with_payload=sorted(_OWN))
        payloads = [point.payload or {} for point in found]
        hashes = {payload["id"]: payload.get("content_hash") for payload in payloads}
        return {id: None if hash is None else bytes.fromhex(hash) for id, hash in hashes.items()}

    def write(self, vectors: Vectors) -> None:
        """Replace the points of these ids; returns when Qdrant has them."""
        rows = max(1, UPSERT_BYTES // (_NUMBER_BYTES * vectors.dense.shape[1]))
        for start in range(0, len(vectors), rows):
            some = slice(start, start + rows)
            payloads: list[dict[str, object]] = [
                {**kept, "id": id, "content_hash": hash.hex()}
                for id, hash, kept in zip(vectors.ids[some], vectors.hashes[some], vectors.kept[some], strict=True)
            ]
            batch = models.Batch(
                ids=[_point(id) for id in vectors.ids[some]], vectors=vectors.dense[some].tolist(), payloads=payloads
            )
            with self._explained():
                self._opened().upsert(self._collection, batch, wait=True)

    def commit(self, checkpoint: bytes) -> None:
        """Keep the checkpoint: what was written is durable already."""
        payload = {"job": self._job, "checkpoint": base64.b64encode(checkpoint).decode()}
        point = models.PointStruct(id=_point(self._job), vector={}, payload=payload)
        with self._explained():
            self._opened().upsert(JOBS, [point], wait=True)

    def clear(self) -> None:
        """Forget the checkpoint."""
        with self._explained():
            self._opened().delete(JOBS, models.PointIdsList(points=[_point(self._job)]), wait=True)

    def close(self) -> None:
        """Disconnect; a folder is free then."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def _connect(self) -> QdrantClient:
        if self._folder is None:
            key = os.environ.get("QDRANT_API_KEY")
            return QdrantClient(url=self._url, api_key=key, timeout=TIMEOUT_S, check_compatibility=False)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = Lock(self._folder)  # Qdrant has one too, and leaves a file open when it cannot have it
        warnings.filterwarnings("ignore", "Local mode is not recommended for collections", UserWarning)
        return QdrantClient(path=str(self._folder))

    def _check(self, found: object) -> None:
        shape = self._shape
        if not isinstance(found, models.VectorParams):
            raise SinkRefused(f"{self._where} has vectors with names, or none: name another collection")
        has = (found.size, found.distance, found.datatype or models.Datatype.FLOAT32)
        wants = (shape.dimensions, models.Distance.COSINE, _DATATYPES[shape.dtype])
        if has != wants:
            told, asked = (
                f"{datatype.value}, {size} numbers, {distance.value}" for size, distance, datatype in (has, wants)
            )
            raise SinkRefused(f"{self._where} is for {told}, the job's vectors are {asked}: name another collection")

    def _opened(self) -> QdrantClient:
        if self._client is None:
            raise RuntimeError("not open")
        return self._client

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except FAILURES as error:
            raise explain(error, self._where) from error


def _point(name: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, name))
