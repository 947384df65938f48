"""How does a Kafka record become a job, or at once an answer?"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

from aiokafka import ConsumerRecord
from embedmq_schemas.codes import CODES
from embedmq_schemas.envelope import Envelope, Record, Refusal, open_record
from embedmq_schemas.names import Names
from embedmq_schemas.requests import LANES, Embed, TopicReply
from embedmq_schemas.results import Failed

from embedmq_worker.check import check, check_reply_topic, cost, held_bytes, items_that_fit
from embedmq_worker.config import Config
from embedmq_worker.engine.seam import Ask, Fault, ModelFacts
from embedmq_worker.jobs import Cost, Job, Outcome
from embedmq_worker.progress import Progress

SHARED: Final = frozenset((None, lane) for lane in LANES)
"""What the names of the shared topics say."""


class Decoder:
    """Reads records for the models of one worker. It holds settings only; each call is a pure decision."""

    def __init__(self, config: Config, names: Names, models: Mapping[str, ModelFacts]) -> None:
        self._limits = config.limits
        self._allowed = list(config.worker.reply_topics)
        self._names = names
        self._models = models
        self._shared = frozenset(name for name, model in config.models.items() if model.shared)

    def decode(self, found: ConsumerRecord, progress: Progress, now_s: float) -> Job | Outcome:
        """Decode and check one record; what is wrong with it becomes its outcome."""
        record = Record(
            found.topic, found.partition, found.offset, found.timestamp, found.key, found.value, found.headers
        )
        size = held_bytes(record)
        opened = open_record(record, self._names, self._limits.max_request_bytes)
        if isinstance(opened, Refusal):
            job = Job(record, progress, opened.envelope, now_s, Cost(size))
            too_many = opened.code == "too_large" and len(record.value or b"") <= self._limits.max_request_bytes
            return fail(job, Fault(opened.code, opened.message), self._limits.max_items if too_many else None)
        envelope, request = opened
        job = Job(record, progress, envelope, now_s, Cost(size), request)
        facts = self._models.get(envelope.model)
        if facts is None:
            known = ", ".join(sorted(self._models))
            return fail(job, Fault("unknown_model", f"no model {envelope.model!r} is served here; there are: {known}"))
        if self._names.parse(record.topic) in SHARED and envelope.model not in self._shared:
            message = f"{envelope.model} has topics of its own, whose ACLs guard it: send the request there"
            return fail(job, Fault("malformed", message))
        if not isinstance(request, Embed):
            return fail(job, Fault("unsupported", f"{envelope.model} embeds; to score, choose a cross-encoder"))
        return self._check(job, request, facts)

    def _check(self, job: Job, request: Embed, facts: ModelFacts) -> Job | Outcome:
        if (fault := self._check_reply(job.envelope)) is not None:
            return fail(job, fault)
        options = check(request, job.envelope, facts, self._limits, time.time() * 1000)
        if isinstance(options, Fault):
            too_many = len(request.items) > self._limits.max_items
            return fail(job, options, self._limits.max_items if too_many else None)
        fits = items_that_fit(request, options, facts, job.envelope, self._limits)
        if fits is not None:
            message = f"the vectors of {len(request.items)} items exceed one reply: {fits} items fit"
            return fail(job, Fault("too_large", message), fits)
        job.options = options
        job.remaining = len(request.items)
        job.cost = cost(job.cost.bytes, request, options, job.envelope, facts)
        return job

    def _check_reply(self, envelope: Envelope) -> Fault | None:
        """A reply that may not be sent is not computed, unless its result is to be kept all the same."""
        if isinstance(envelope.reply, TopicReply) and not envelope.keep_s:
            return check_reply_topic(envelope.reply.topic, self._names.prefix, self._allowed)
        return None


def fail(job: Job, fault: Fault, fits: int | None = None) -> Outcome:
    """The typed failure of a whole request, which need not be held any longer in its decoded form."""
    envelope = job.envelope
    job.request = None
    return Outcome(
        job,
        Failed(
            id=envelope.id,
            model=envelope.model,
            code=fault.code,
            message=fault.message,
            retryable=CODES[fault.code].retryable,
            meta=envelope.meta,
            item_ids=envelope.item_ids,
            fits=fits,
        ),
    )


def asks(jobs: Sequence[Job]) -> list[Ask]:
    """What an engine's `prepare` takes."""
    return [Ask(job.request.items if isinstance(job.request, Embed) else (), job.options) for job in jobs]
