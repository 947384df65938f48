"""Jobs, records and outcomes as the pure parts see them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from embedmq_schemas.codec import Codec
from embedmq_schemas.envelope import Envelope, Record
from embedmq_schemas.requests import Embed, Lane, Reply
from embedmq_schemas.results import Embedded, Failed, Failure, Result, Tensor
from embedmq_worker.engine.seam import Prepared
from embedmq_worker.jobs import Cost, Job, Outcome
from embedmq_worker.progress import Progress

TIMESTAMP_MS = 1_700_000_000_000


def make_record(
    *,
    topic: str = "embedmq.m.interactive",
    partition: int = 3,
    offset: int = 41,
    key: bytes | None = None,
    value: bytes | None = b"{}",
    headers: Sequence[tuple[str, bytes]] = (),
) -> Record:
    return Record(topic, partition, offset, TIMESTAMP_MS, key, value, list(headers))


def make_envelope(
    id: str = "id",
    *,
    model: str = "m",
    lane: Lane = "interactive",
    codec: Codec = "msgpack",
    reply: Reply | None = None,
    keep_s: int | None = None,
) -> Envelope:
    return Envelope(
        id=id,
        model=model,
        lane=lane,
        codec=codec,
        reply=reply,
        keep_s=keep_s,
        tenant="",
        meta={"page": "7"},
        item_ids=["doc"],
    )


def make_job(
    id: str = "id",
    tokens: Sequence[int] = (1,),
    *,
    model: str = "m",
    lane: Lane = "interactive",
    arrived_s: float = 0.0,
    progress: Progress | None = None,
) -> Job:
    """A job that is ready for the device."""
    return Job(
        make_record(),
        progress or Progress("t", 0),
        make_envelope(id, model=model, lane=lane),
        arrived_s,
        Cost(100, len(tokens), sum(tokens)),
        Embed(items=["x"] * len(tokens)),
        prepared=Prepared(list(tokens), None, [], {}),
        remaining=len(tokens),
    )


def make_outcome(
    result: Result | None = None,
    *,
    id: str = "id",
    reply: Reply | None = None,
    keep_s: int | None = None,
    codec: Codec = "msgpack",
    record: Record | None = None,
) -> Outcome:
    envelope = make_envelope(id, reply=reply, keep_s=keep_s, codec=codec)
    job = Job(record or make_record(), Progress("t", 0), envelope, 0.0, Cost(100))
    return Outcome(job, result or make_embedded(id))


def make_embedded(id: str = "id", *, width: int = 4, failures: Sequence[Failure] = ()) -> Embedded:
    block = np.ones((1, width), np.float32)
    tensor = Tensor("float32", (1, width), block.data.cast("B"))
    return Embedded(id=id, model="m", count=1, dense=tensor, failures=list(failures))


def make_failed(code: str, id: str = "id") -> Failed:
    return Failed(id=id, model="m", code=code, message=f"why it is {code}")
