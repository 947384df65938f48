"""What does the caller of a computed request get? Pure."""

from __future__ import annotations

import numpy as np
from embedmq_schemas.requests import Embed
from embedmq_schemas.results import Embedded, Failure, Tensor, Timing
from embedmq_schemas.vectors import Array, to_rows

from embedmq_worker.engine.seam import ModelFacts
from embedmq_worker.jobs import Job


def answer(job: Job, facts: ModelFacts) -> Embedded:
    """Put the parts of a job, which may come from several batches, together in the order of its items."""
    envelope, prepared = job.envelope, job.prepared
    return Embedded(
        id=envelope.id,
        model=envelope.model,
        revision=facts.revision,
        computed_in=facts.computed_in,
        count=len(prepared.tokens),
        dense=_dense(job),
        failures=[Failure(index, fault.code, fault.message) for index, fault in sorted(prepared.faults.items())],
        tokens=prepared.tokens,
        truncated=prepared.truncated,
        meta=envelope.meta,
        item_ids=envelope.item_ids,
        timing=Timing(round(job.queue_ms, 3), round(job.tokenize_ms, 3), round(job.forward_ms, 3)),
    )


def _dense(job: Job) -> Tensor | None:
    encoded = [part for _, part in sorted(job.encoded, key=lambda part: part[0])]
    blocks = [part.dense for part in encoded if part.dense is not None]
    if not blocks:
        return None
    block: Array = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    scales = [float(scale) for part in encoded if part.scales is not None for scale in part.scales]
    rows, width = block.shape
    as_rows = job.envelope.codec == "text" or (isinstance(job.request, Embed) and job.request.encoding == "array")
    return Tensor(
        dtype=job.options.dtype,
        shape=(rows, width),
        data=to_rows(block, frozenset(job.prepared.faults)) if as_rows else np.ascontiguousarray(block).data.cast("B"),
        scales=scales or None,
    )
