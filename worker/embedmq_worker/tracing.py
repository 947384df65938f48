"""What does a worker note of the requests whose traces are recorded, and when?

Only what asks for it is noted: a request whose caller's trace is sampled, and the share of the others that the
configuration says. What others do not have is one attribute that is None.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from embedmq_schemas.names import Names, Reader
from embedmq_schemas.requests import StreamReply, TopicReply
from embedmq_schemas.results import Embedded, Failed, Scored
from embedmq_schemas.trace_context import read

from embedmq_worker.changes import Loaded
from embedmq_worker.choose import Budget
from embedmq_worker.config import Tracing as Settings
from embedmq_worker.engine.seam import ModelFacts
from embedmq_worker.jobs import Batch, Ending, Job, Outcome
from embedmq_worker.metrics import Metrics
from embedmq_worker.supply import Supplied
from embedmq_worker.trace import Allowance, Computed, Ended, Loading, Noted, Place, Trace, Value, begin, child


class Tracing:
    """Follows traced requests along the road, and gives what it noted to `put` when they end."""

    def __init__(
        self,
        put: Callable[[Noted], None],
        names: Names,
        budgets: Mapping[str, Budget],
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        """`budgets` says what a batch of each loaded model may hold."""
        self._put = put
        self._names = names
        self._budgets = budgets
        self._share = settings.sample_share
        self._allowance = Allowance(settings.max_per_s)
        self._metrics = metrics
        self._loads: dict[str, Loading] = {}

    def begin(self, job: Job, reader: Reader) -> None:
        """A record is ours to answer."""
        context = read(job.record.headers)
        if context.sampled if context is not None else self._share:
            now_s = time.monotonic()
            unix_ns = time.time_ns() - int(now_s * 1e9)
            place = _place(job, self._names.group(reader))
            trace = begin(context, self._share, place, unix_ns, job.arrived_s)
            if trace is None or self._allowance.take(now_s):
                job.trace = trace
            else:
                self._metrics.count("requests_untraced_total")

    def loaded(self, change: Loaded) -> None:
        """A model has come into memory."""
        now_s = time.monotonic()
        self._loads[change.model] = Loading(change.model, now_s - change.load_s, now_s)

    def computed(
        self, batch: Batch, facts: ModelFacts, start_s: float, supplied: Supplied | None, error: str = ""
    ) -> None:
        """A batch has left the device, with its vectors or without any."""
        traces = list({id(part.job): part.job.trace for part in batch.parts if part.job.trace is not None}.values())
        if not traces:
            return
        end_s, own = time.monotonic(), child(traces[0].encode)
        for trace in traces:
            trace.began_s = start_s if trace.began_s is None else trace.began_s
            trace.computed_s = end_s
            trace.batches.append(own)
        requests = [trace.encode for trace in traces]
        together = len({id(part.job) for part in batch.parts})
        said = self._company(batch, supplied) | {"embedmq.path": facts.path, "embedmq.computed_in": facts.computed_in}
        unix_ns = traces[0].unix_ns
        self._put(Computed(own, batch.model, unix_ns, start_s, end_s, requests, together, said, error))

    def delivered(self, endings: Sequence[Ending], deliver_s: float) -> Trace | None:
        """Outcomes were acknowledged; returns one of those that are traced."""
        end_s, some = time.monotonic(), None
        for ending in endings:
            trace = ending.job.trace
            if trace is None:
                continue
            some = trace
            trace.ended = _ended(ending, end_s - deliver_s, end_s, len(endings))
            self._join_load(trace)
            self._put(trace)
        return some

    def _company(self, batch: Batch, supplied: Supplied | None) -> dict[str, Value]:
        """What a batch held, and what of it was for the device."""
        said: dict[str, Value] = {"embedmq.items": batch.items, "embedmq.tokens": batch.tokens}
        if supplied is not None:
            said["embedmq.device.items"] = supplied.items
            said["embedmq.device.s"] = supplied.forward_s
            said["embedmq.batch.fill"] = min(1.0, supplied.tokens / self._budgets[batch.model].tokens)
            said["embedmq.batch.coalesced"] = supplied.coalesced
            said["embedmq.batch.cached"] = supplied.hits
        return said

    def _join_load(self, trace: Trace) -> None:
        """Find the load that a request has waited for; the first to do so has it in its own trace."""
        loading = self._loads.get(trace.place.model)
        if trace.absent_s is None or loading is None or loading.end_s < trace.absent_s:
            return
        if trace.cut_s is not None and loading.end_s > trace.cut_s:
            return  # that was a later one
        trace.loading = loading
        if loading.own is None:
            loading.own, trace.loaded_here = child(trace.wait), True


def _place(job: Job, group: str) -> Place:
    record, envelope = job.record, job.envelope
    return Place(
        id=envelope.id,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        group=group,
        timestamp_ms=record.timestamp_ms,
        model=envelope.model,
        lane=envelope.lane,
        tenant=envelope.tenant,
        attempt=envelope.journey.attempts + 1,
    )


def _ended(ending: Ending, start_s: float, end_s: float, together: int) -> Ended:
    job = ending.job
    if isinstance(ending, Outcome):
        code, to, tried_again = _code(ending.result), _ways(job), False
    else:
        code, to, tried_again = ending.fault.code, ["retry"], True
    tokens = job.prepared.tokens
    return Ended(start_s, end_s, code, to, together, len(tokens), sum(tokens), tried_again)


def _code(result: Embedded | Scored | Failed) -> str:
    return result.code if isinstance(result, Failed) else "ok"


def _ways(job: Job) -> list[str]:
    """Where an outcome goes: the stream of whoever waits, a topic, a key of its own."""
    reply, keep_s = job.envelope.reply, job.envelope.keep_s
    ways = ["stream"] if isinstance(reply, StreamReply) else []
    if isinstance(reply, TopicReply):
        ways.append(f"topic {reply.topic}")
    return [*ways, "key"] if keep_s or (keep_s is None and reply is None) else ways
