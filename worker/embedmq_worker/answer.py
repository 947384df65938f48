"""What does the caller of a computed request get? Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np
from embedmq_schemas.requests import Embed, Score
from embedmq_schemas.results import Embedded, Failure, Scored, Sparse, Tensor, Timing
from embedmq_schemas.vectors import Array, to_rows

from embedmq_worker.engine.seam import Block, Encoded, ModelFacts
from embedmq_worker.jobs import Job

NONE_FAILED: frozenset[int] = frozenset()


def answer(job: Job, facts: ModelFacts) -> Embedded | Scored:
    """Put the parts of a job, which may come from several batches, together in the order of its items."""
    several = sorted(job.encoded, key=lambda part: part[0]) if len(job.encoded) > 1 else job.encoded
    parts = [part for _, part in several]
    timing = Timing(job.queue_ms, job.tokenize_ms, job.forward_ms)
    if isinstance(job.request, Score):
        return _scored(job, job.request, facts, parts, timing)
    envelope, prepared = job.envelope, job.prepared
    return Embedded(
        id=envelope.id,
        model=envelope.model,
        revision=facts.revision,
        computed_in=facts.computed_in,
        count=len(prepared.tokens),
        dense=_dense(job, parts),
        sparse=_sparse(parts),
        multivector=_multivector(job, parts),
        failures=_failures(job) if prepared.faults else [],
        tokens=prepared.tokens,
        truncated=prepared.truncated,
        meta=envelope.meta,
        item_ids=envelope.item_ids,
        timing=timing,
    )


def rank(scores: Sequence[float | None], top_n: int | None) -> list[int]:
    """Indices by score, best first, the first of equals first; what has no score is not ranked."""
    scored = [index for index, score in enumerate(scores) if score is not None]
    return sorted(scored, key=lambda index: -(scores[index] or 0.0))[:top_n]


def _scored(job: Job, request: Score, facts: ModelFacts, parts: Sequence[Encoded], timing: Timing) -> Scored:
    envelope, prepared = job.envelope, job.prepared
    numbers = [float(score) for part in parts if part.scores is not None for score in part.scores]
    scores = [score if isfinite(score) else None for score in numbers]
    return Scored(
        id=envelope.id,
        model=envelope.model,
        revision=facts.revision,
        computed_in=facts.computed_in,
        count=len(prepared.tokens),
        scores=scores,
        ranking=rank(scores, request.top_n),
        failures=_failures(job),
        tokens=prepared.tokens,
        truncated=prepared.truncated,
        meta=envelope.meta,
        item_ids=envelope.item_ids,
        timing=timing,
    )


def _failures(job: Job) -> list[Failure]:
    return [Failure(index, fault.code, fault.message) for index, fault in sorted(job.prepared.faults.items())]


def _dense(job: Job, parts: Sequence[Encoded]) -> Tensor | None:
    blocks = [part.dense for part in parts if part.dense is not None]
    if not blocks:
        return None
    if len(blocks) == 1:
        return _tensor(job, blocks[0], frozenset(job.prepared.faults))
    scales = [block.scales for block in blocks if block.scales is not None]
    joined = Block(np.concatenate([block.data for block in blocks]), np.concatenate(scales) if scales else None)
    return _tensor(job, joined, frozenset(job.prepared.faults))


def _sparse(parts: Sequence[Encoded]) -> list[Sparse] | None:
    found = [part.sparse for part in parts if part.sparse is not None]
    return [vector for vectors in found for vector in vectors] if found else None


def _multivector(job: Job, parts: Sequence[Encoded]) -> list[Tensor] | None:
    found = [part.multivector for part in parts if part.multivector is not None]
    return [_tensor(job, block, NONE_FAILED) for blocks in found for block in blocks] if found else None


def _tensor(job: Job, block: Block, failed: frozenset[int]) -> Tensor:
    array: Array = block.data
    scales = block.scales.tolist() if block.scales is not None else None
    as_rows = job.envelope.codec == "text" or (isinstance(job.request, Embed) and job.request.encoding == "array")
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    shape = (array.shape[0], array.shape[1])
    return Tensor(job.options.dtype, shape, to_rows(array, failed) if as_rows else array.data, scales)
