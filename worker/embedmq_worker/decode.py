"""How does a Kafka record become a job, or at once an answer?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from aiokafka import ConsumerRecord
from embedmq_schemas.codes import CODES
from embedmq_schemas.envelope import Envelope, Record, Refusal, open_record
from embedmq_schemas.names import Names
from embedmq_schemas.requests import LANES, Embed, Item, TopicReply, count_items
from embedmq_schemas.results import Failed
from msgspec.structs import replace

from embedmq_worker.check import check, check_reply_topic
from embedmq_worker.config import Config
from embedmq_worker.cost import cost, held_bytes, items_that_fit
from embedmq_worker.engine.seam import Ask, Fault, ModelFacts, Options
from embedmq_worker.identity import Owners
from embedmq_worker.jobs import Cost, Ending, Job, Outcome, Stray
from embedmq_worker.progress import Progress
from embedmq_worker.roster import Roster

SHARED: Final = frozenset((None, lane) for lane in LANES)
"""What the names of the shared topics say."""

REVISION_PARKS: Final = 30
"""How often a request is parked whose revision is not served here: two hours of a deploy, by the usual delays."""

UNMET: Final = ModelFacts(dimensions=1_024, max_tokens=8_192)
"""What holding a request is taken to cost while its model was never loaded: generous, since it is corrected then."""


class Decoder:
    """Reads records for the models of one worker. It changes nothing; each call is a pure decision."""

    def __init__(
        self,
        config: Config,
        roster: Roster,
        names: Names,
        facts: Callable[[str], ModelFacts | None],
        park: Callable[[Job, Fault, float], Ending],
    ) -> None:
        """`facts` says what is known of a model of the roster: nothing before it was loaded for the first time. `park`
        lays a request aside for another worker, as of a time in Unix milliseconds.
        """
        self._limits = config.limits
        self._allowed = list(config.worker.reply_topics)
        self._names = names
        self._facts = facts
        self._park = park
        self._owners = Owners(config.tenants, names)
        self._roster = roster

    def decode(self, found: ConsumerRecord, progress: Progress, now_s: float) -> Job | Ending | Stray:
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
        tenant = self._owners.identify(record, envelope.tenant)
        if isinstance(tenant, str) and tenant != envelope.tenant:
            envelope = replace(envelope, tenant=tenant)
        job = Job(record, progress, envelope, now_s, Cost(size), request, alone=envelope.journey.alone)
        if not (self._roster.serves(envelope.model) or self._was_ours(record, envelope)):
            return Stray(job)
        contradiction = tenant if isinstance(tenant, Fault) else None
        fault = contradiction or self._check_place(record, envelope) or self._check_reply(envelope)
        if fault is not None:
            return fail(job, fault)
        facts = self._facts(envelope.model)
        if facts is None:  # its model was never loaded: what can be asked of it shows when it is
            job.cost = cost(size, request, Options(), envelope, UNMET)
            return job
        return self.check(job, facts)

    def check(self, job: Job, facts: ModelFacts) -> Job | Ending:
        """Hold a job against what its model can do."""
        request, envelope, limits = job.request, job.envelope, self._limits
        if request is None:
            raise ValueError(f"request {envelope.id} was answered before")
        now_unix_ms = time.time() * 1000
        options = check(request, envelope, facts, limits, now_unix_ms)
        count = count_items(request)
        if isinstance(options, Fault):
            elsewhere = options.code == "unsupported" and request.revision not in (None, facts.revision)
            if elsewhere and envelope.journey.parked < REVISION_PARKS:
                return self._park(job, options, now_unix_ms)
            return fail(job, options, limits.max_items if count > limits.max_items else None)
        fits = items_that_fit(request, options, facts, envelope, limits)
        if fits is not None:
            return fail(job, _too_large(count, fits), fits)
        job.options = options
        job.remaining = count
        job.cost = cost(held_bytes(job.record), request, options, envelope, facts)
        return job

    def check_tokens(self, job: Job, facts: ModelFacts) -> Outcome | None:
        """Refuse what exceeds one reply now that its tokens are counted, as vectors of each token may."""
        if "multivector" not in job.options.outputs or job.request is None:
            return None
        tokens = sum(job.prepared.tokens)
        fits = items_that_fit(job.request, job.options, facts, job.envelope, self._limits, tokens)
        return None if fits is None else fail(job, _too_large(len(job.prepared.tokens), fits), fits)

    def _was_ours(self, record: Record, envelope: Envelope) -> bool:
        """Whether a record was read from its model's own topic before that was given up: it is finished here."""
        return envelope.model in self._roster and self._names.parse(record.topic) == (envelope.model, envelope.lane)

    def _check_place(self, record: Record, envelope: Envelope) -> Fault | None:
        if self._names.parse(record.topic) in SHARED and not self._roster[envelope.model].shared:
            message = f"{envelope.model} has topics of its own, whose ACLs guard it: send the request there"
            return Fault("malformed", message)
        return None

    def _check_reply(self, envelope: Envelope) -> Fault | None:
        """A reply that may not be sent is not computed, unless its result is to be kept all the same."""
        if isinstance(envelope.reply, TopicReply) and not envelope.keep_s:
            return check_reply_topic(envelope.reply.topic, self._names.prefix, self._allowed)
        return None


def _too_large(count: int, fits: int) -> Fault:
    return Fault("too_large", f"the vectors of {count} items exceed one reply: {fits} items fit")


def fail(job: Job, fault: Fault, fits: int | None = None, retry_after_s: float | None = None) -> Outcome:
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
            attempts=envelope.journey.attempts + 1,
            meta=envelope.meta,
            item_ids=envelope.item_ids,
            fits=fits,
            retry_after_s=retry_after_s,
        ),
    )


def asks(jobs: Sequence[Job]) -> list[Ask]:
    """What an engine's `prepare` takes."""
    return [_ask(job) for job in jobs]


def content_of(job: Job) -> tuple[Sequence[Item], str | None]:
    """The items of a request, and the query that they are compared with; nothing of one that was answered."""
    request = job.request
    if isinstance(request, Embed):
        return request.items, None
    return (request.documents, request.query) if request is not None else ((), None)


def _ask(job: Job) -> Ask:
    items, query = content_of(job)
    return Ask(items, job.options, query)
