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
        failures=[Failure(index, fault.code, fault.message) for index, fault in sorted(prepared.faults.items())]
        if prepared.faults
        else [],
        tokens=prepared.tokens,
        truncated=prepared.truncated,
        meta=envelope.meta,
        item_ids=envelope.item_ids,
        timing=Timing(job.queue_ms, job.tokenize_ms, job.forward_ms),
    )


def _dense(job: Job) -> Tensor | None:
    parts = [part for _, part in sorted(job.encoded, key=lambda part: part[0])] if len(job.encoded) > 1 else None
    first = parts[0] if parts else job.encoded[0][1]
    if first.dense is None:
        return None
    blocks = [part.dense for part in parts or [first] if part.dense is not None]
    block: Array = np.concatenate([each.data for each in blocks]) if parts else first.dense.data
    scales: list[float] | None = None
    if first.dense.scales is not None:
        scales = [float(x) for each in blocks if each.scales is not None for x in each.scales]
    as_rows = job.envelope.codec == "text" or (isinstance(job.request, Embed) and job.request.encoding == "array")
    if not block.flags.c_contiguous:
        block = np.ascontiguousarray(block)
    data = to_rows(block, frozenset(job.prepared.faults)) if as_rows else block.data
    return Tensor(job.options.dtype, block.shape, data, scales)
