"""Which writes deliver a set of outcomes? Pure: results become bytes here, grouped by where they go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

from embedmq_schemas import headers as h
from embedmq_schemas.codec import CONTENT_TYPES, encode_result, join_results
from embedmq_schemas.codes import exception_name, find
from embedmq_schemas.journey import place, send_on
from embedmq_schemas.limits import Limits
from embedmq_schemas.names import Names
from embedmq_schemas.requests import StreamReply, TopicReply
from embedmq_schemas.results import Embedded, Failed, Result
from embedmq_schemas.stub import CANCELLED, COMPLETED
from msgspec import Struct

from embedmq_worker.config import Redis
from embedmq_worker.cost import fewer_that_fit
from embedmq_worker.decode import fail
from embedmq_worker.engine.seam import Fault
from embedmq_worker.jobs import Ending, Outcome, Retry


class StreamWrite(Struct, frozen=True, eq=False):
    """Append one entry, the results of one client, to its stream."""

    key: str
    entry: bytes
    outcomes: list[Outcome]


class KeepWrite(Struct, frozen=True, eq=False):
    """Keep one result; a failure (`replace=False`) never takes the place of what is there."""

    key: str
    stub_key: str
    value: bytes
    ttl_s: int
    replace: bool
    outcome: Outcome
    stub: bytes = COMPLETED


class TopicWrite(Struct, frozen=True, eq=False):
    """Produce one record: a reply, a dead letter, or a request that is tried again."""

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    timestamp_ms: int | None
    ending: Ending
    kind: Literal["reply", "dead", "retry"]
    code: str = ""
    """Why a dead letter is one, or what is tried again failed."""


class Plan(Struct, frozen=True):
    """All writes of one delivery."""

    streams: list[StreamWrite]
    keeps: list[KeepWrite]
    replies: list[TopicWrite]
    dead: list[TopicWrite]
    retries: list[TopicWrite]


class Planner:
    """Knows the names and bounds; decides the writes."""

    def __init__(self, names: Names, redis: Redis, limits: Limits, worker_id: str) -> None:
        self._names = names
        self._redis = redis
        self._limits = limits
        self._source = f"{names.prefix}/worker/{worker_id}".encode()

    def plan(self, endings: Sequence[Ending]) -> Plan:
        """Each outcome goes to its reply, to its key if that is wished, and to the dead letters if its code says so.

        What is tried again goes to its retry topic.
        """
        plan = Plan([], [], [], [], [])
        streams: defaultdict[str, list[tuple[bytes, Outcome]]] = defaultdict(list)
        for computed in endings:
            if isinstance(computed, Retry):
                plan.retries.append(self._retry(computed))
                continue
            envelope = computed.job.envelope
            outcome, value = self._bound(computed, encode_result(computed.result, envelope.codec))
            if isinstance(envelope.reply, StreamReply):
                packed = value if envelope.codec == "msgpack" else encode_result(outcome.result)
                streams[envelope.reply.client].append((packed, outcome))
            elif isinstance(envelope.reply, TopicReply):
                plan.replies.append(self._reply(outcome, envelope.reply, value))
            if ttl_s := self._keep_s(outcome):
                plan.keeps.append(self._keep(outcome, value, ttl_s, replace=not isinstance(outcome.result, Failed)))
            if (reason := grave(outcome.result)) is not None:
                plan.dead.append(self.dead(outcome, *reason))
        for client, results in streams.items():
            plan.streams.extend(self._entries(self._names.stream(client), results))
        return plan

    def undelivered(self, writes: Iterable[tuple[Outcome, Fault]]) -> Plan:
        """What follows on undeliverable replies: dead letters, and the reason kept where `result` finds it.

        A request that failed before keeps its first reason, and has its dead letter already if that was to have one.
        """
        plan = Plan([], [], [], [], [])
        for outcome, fault in writes:
            envelope, failed = outcome.job.envelope, outcome.result
            if grave(failed) is None:
                plan.dead.append(self.dead(outcome, fault.code, fault.message))
            if not isinstance(failed, Failed):
                failed = Failed(
                    id=envelope.id,
                    model=envelope.model,
                    code=fault.code,
                    message=fault.message,
                    meta=envelope.meta,
                    item_ids=envelope.item_ids,
                )
            if not self._keep_s(outcome):
                value = encode_result(failed, envelope.codec)
                plan.keeps.append(self._keep(outcome, value, self._redis.default_keep_s, replace=False))
        return plan

    def dead(self, outcome: Outcome, code: str, message: str) -> TopicWrite:
        """The record as it came, value and headers untouched, the reason added in headers.

        What is said last counts. The first place is that of the record, unless it was tried before: on a retry topic
        workers have written where it was read first, anywhere else that could be anybody's claim.
        """
        record, envelope = outcome.job.record, outcome.job.envelope
        first = [] if self._tried(outcome) else place(record)
        attempts = envelope.journey.attempts + 1
        named = [(h.ID, envelope.id.encode()), (h.LANE, envelope.lane.encode()), (h.ATTEMPT, str(attempts).encode())]
        headers = [*record.headers, *first, *named, *_reason(code, message)]
        # a record needs a key or a value to be produced at all
        key = record.key if record.value is not None or record.key is not None else b""
        return TopicWrite(self._names.dead, None, key, record.value, headers, None, outcome, "dead", code)

    def _retry(self, retry: Retry) -> TopicWrite:
        record = retry.job.record
        headers = send_on(record, retry.job.envelope, retry.journey, tried=self._tried(retry))
        topic = self._names.retry(retry.delay_s)
        return TopicWrite(topic, None, record.key, record.value, headers, None, retry, "retry", retry.fault.code)

    def _tried(self, ending: Ending) -> bool:
        return self._names.is_retry(ending.job.record.topic)

    def _entries(self, key: str, results: list[tuple[bytes, Outcome]]) -> list[StreamWrite]:
        """Group a client's results into entries of bounded size; a larger single result is an entry of its own."""
        writes: list[StreamWrite] = []
        group: list[bytes] = []
        outcomes: list[Outcome] = []
        size = 0
        for value, outcome in results:
            if group and size + len(value) > self._redis.max_entry_bytes:
                writes.append(StreamWrite(key, join_results(group), outcomes))
                group, outcomes, size = [], [], 0
            group.append(value)
            outcomes.append(outcome)
            size += len(value)
        writes.append(StreamWrite(key, join_results(group), outcomes))
        return writes

    def _bound(self, outcome: Outcome, value: bytes) -> tuple[Outcome, bytes]:
        """Refuse what turned out larger than a reply may be: how many weights a sparse vector has shows only then."""
        result, envelope = outcome.result, outcome.job.envelope
        topic = isinstance(envelope.reply, TopicReply)
        limit = self._limits.max_topic_reply_bytes if topic else self._limits.max_stream_reply_bytes
        if len(value) <= limit or not isinstance(result, Embedded) or result.sparse is None:
            return outcome, value
        fits = fewer_that_fit(result.count, len(value), limit)
        message = f"the vectors of {result.count} items take {len(value)} bytes, of {limit}: {fits} items fit"
        refused = fail(outcome.job, Fault("too_large", message), fits)
        return refused, encode_result(refused.result, envelope.codec)

    def _keep_s(self, outcome: Outcome) -> int:
        envelope = outcome.job.envelope
        if envelope.keep_s is None:
            return self._redis.default_keep_s if envelope.reply is None else 0
        return max(0, min(envelope.keep_s, self._limits.max_keep_s))

    def _keep(self, outcome: Outcome, value: bytes, ttl_s: int, *, replace: bool) -> KeepWrite:
        id = outcome.result.id
        cancelled = isinstance(outcome.result, Failed) and outcome.result.code == "cancelled"
        stub = CANCELLED if cancelled else COMPLETED
        return KeepWrite(self._names.result(id), self._names.stub(id), value, ttl_s, replace, outcome, stub)

    def _reply(self, outcome: Outcome, reply: TopicReply, value: bytes) -> TopicWrite:
        job, result = outcome.job, outcome.result
        codec = "json" if job.envelope.codec == "text" else job.envelope.codec
        headers: list[tuple[str, bytes | None]] = [
            (h.CONTENT_TYPE, CONTENT_TYPES[codec]),
            (h.CE_SPECVERSION, b"1.0"),
            (h.CE_ID, result.id.encode()),
            (h.CE_SOURCE, self._source),
            (h.CE_TYPE, h.CE_TYPES[_kind(result)].encode()),
        ]
        carried = ((name, h.last(job.record.headers, name)) for name in (h.CORRELATION_ID, h.TRACEPARENT, h.TRACESTATE))
        headers += [(name, value) for name, value in carried if value is not None]
        key = (reply.key if reply.key is not None else result.id).encode()
        asked_ms = job.envelope.journey.first_seen_unix_ms or job.record.timestamp_ms
        return TopicWrite(reply.topic, reply.partition, key, value, headers, asked_ms, outcome, "reply")


def _kind(result: Result) -> str:
    if isinstance(result, Failed):
        return "failed"
    return "embedded" if isinstance(result, Embedded) else "scored"


def grave(result: Result) -> tuple[str, str] | None:
    """Code and message, if a result is to be a dead letter: by its code, or when the device failed on every item."""
    if isinstance(result, Failed):
        facts = find(result.code)
        return (result.code, result.message) if facts is not None and facts.dead_letter else None
    failed = [failure for failure in result.failures if failure.code == "processing_failed"]
    return (failed[0].code, failed[0].message) if failed and len(failed) == result.count else None


def _reason(code: str, message: str) -> list[tuple[str, bytes]]:
    return [
        (h.ERROR_CODE, code.encode()),
        (h.DLT_EXCEPTION, exception_name(code).encode()),
        (h.DLT_MESSAGE, message.encode()),
    ]
