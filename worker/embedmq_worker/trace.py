"""What is noted of a traced request and its batches, and which spans does that make? Pure.

    send <topic>                  the caller's, in another process
    └── process <topic>           from Kafka's timestamp to the acknowledgement of the outcome
        ├── queue <model>         until the device begins with it
        │   ├── wait <model>      while its model was not in memory
        │   │   └── load <model>  one a load, in the trace of the first that waited; the others' `wait` links to it
        │   └── tokenize <model>
        ├── encode <model>        until its last vector is there; links to each batch that had some of it
        │   └── batch <model>     one a batch, in the trace of its first traced request; links to `encode` of each
        └── deliver

Moments are seconds of one monotonic clock. A request keeps one offset from it to Unix time, so that the lengths of its
spans are right when the machine's clock is set meanwhile.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Final, Literal

from embedmq_schemas.trace_context import TraceContext
from msgspec import Struct

MAX_LINKS: Final = 128
"""Links of one span, the default limit of OpenTelemetry's SDKs; an attribute says how many there would be."""

Kind = Literal["internal", "consumer"]
Value = str | bool | int | float | Sequence[str]


class Span(Struct, frozen=True):
    """One span as it is exported; ids as OpenTelemetry has them, times in Unix nanoseconds."""

    name: str
    own: TraceContext
    parent: TraceContext | None
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value]
    kind: Kind = "internal"
    links: Sequence[TraceContext] = ()
    error: str = ""


class Loading(Struct, eq=False):
    """One load of a model. `own` is its span, once a traced request has waited for it."""

    model: str
    start_s: float
    end_s: float
    own: TraceContext | None = None


class Place(Struct, frozen=True, gc=False):
    """Where a request was read, and what it says of itself."""

    id: str
    topic: str
    partition: int
    offset: int
    group: str
    timestamp_ms: int
    model: str
    lane: str
    tenant: str
    attempt: int


class Ended(Struct, frozen=True, gc=False):
    """What became of a request, where that went, and with how many others."""

    start_s: float
    end_s: float
    code: str
    to: Sequence[str]
    together: int
    items: int
    tokens: int
    tried_again: bool


class Trace(Struct, eq=False, gc=False):
    """What is noted of one request on its way through this worker; `parent` is None where the trace begins here."""

    parent: TraceContext | None
    process: TraceContext
    queue: TraceContext
    wait: TraceContext
    encode: TraceContext
    place: Place
    unix_ns: int
    """Unix time at the clock's zero, in nanoseconds."""
    read_s: float
    absent_s: float | None = None
    """When it was laid aside for lack of its model."""
    cut_s: float | None = None
    """When its texts were cut into tokens, …"""
    cutting_s: float = 0.0
    """… and how long that took."""
    began_s: float | None = None
    """When the first batch with some of it began, …"""
    computed_s: float = 0.0
    """… and when the last one ended."""
    batches: list[TraceContext] = []  # msgspec copies an empty list for each instance
    loading: Loading | None = None
    loaded_here: bool = False
    """Whether the span of that load is part of this trace."""
    ended: Ended | None = None

    @property
    def exemplar(self) -> dict[str, str]:
        """What a metric's exemplar says of it."""
        return {"trace_id": f"{self.process.trace_id:032x}"}

    def spans(self) -> list[Span]:
        """The spans of a request that has ended; none of one that has not."""
        return [] if self.ended is None else _of_request(self, self.ended)


class Computed(Struct, eq=False, gc=False):
    """What is noted of one batch that had traced requests."""

    own: TraceContext
    model: str
    unix_ns: int
    start_s: float
    end_s: float
    requests: Sequence[TraceContext]
    """`encode` of each traced one, the first one's trace being the batch's."""
    together: int
    attributes: Mapping[str, Value]
    error: str = ""

    def spans(self) -> list[Span]:
        """Its one span."""
        name, times = f"batch {self.model}", (_at(self.unix_ns, self.start_s), _at(self.unix_ns, self.end_s))
        said: dict[str, Value] = {
            "embedmq.model": self.model,
            "embedmq.batch.requests": self.together,
            **self.attributes,
        }
        links = self.requests[:MAX_LINKS]
        return [Span(name, self.own, self.requests[0], *times, said, links=links, error=self.error)]


Noted = Trace | Computed


class Allowance:
    """So many a second, and no more: who samples everything slows nobody down."""

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._second = -1
        self._left = 0

    def take(self, now_s: float) -> bool:
        """Whether this second has one left."""
        if self._second != int(now_s):
            self._second, self._left = int(now_s), self._per_s
        self._left -= 1
        return self._left >= 0


def child(of: TraceContext) -> TraceContext:
    """A new place in the same trace."""
    return TraceContext(of.trace_id, random.getrandbits(64) or 1, of.flags, of.state)


def begin(parent: TraceContext | None, sample_share: float, place: Place, unix_ns: int, read_s: float) -> Trace | None:
    """Begin to note a request: as the flag of its context says, and without one by its id, so that each worker that
    tries it decides alike and finds the same trace.
    """
    if parent is not None:
        above = parent if parent.sampled else None
    else:
        above = _root(place.id, sample_share) if sample_share else None
    if above is None:
        return None
    process = child(above)
    return Trace(parent, process, child(process), child(process), child(process), place, unix_ns, read_s)


def _root(id: str, share: float) -> TraceContext | None:
    digest = blake2b(id.encode(), digest_size=16).digest()
    lucky = int.from_bytes(digest[9:], "big") < share * 2**56  # the 7 bytes that W3C wants random
    return TraceContext(int.from_bytes(digest, "big") or 1, 0) if lucky else None


def _of_request(trace: Trace, ended: Ended) -> list[Span]:
    place, process = trace.place, trace.process
    read_ns, end_ns = _at(trace.unix_ns, trace.read_s), _at(trace.unix_ns, ended.end_s)
    start_ns = min(read_ns, place.timestamp_ms * 1_000_000) if place.timestamp_ms > 0 else read_ns
    sent_ns = _at(trace.unix_ns, ended.start_s)
    began_ns = sent_ns if trace.began_s is None else _at(trace.unix_ns, trace.began_s)
    model: dict[str, Value] = {"embedmq.model": place.model}
    waited = model | {"embedmq.kafka_s": (read_ns - start_ns) / 1e9}
    to: dict[str, Value] = {"embedmq.deliver.to": ended.to, "embedmq.deliver.requests": ended.together}
    spans = [
        _process(trace, ended, start_ns, end_ns),
        Span(f"queue {place.model}", trace.queue, process, start_ns, began_ns, waited),
        *_within_queue(trace, began_ns),
        Span("deliver", child(process), process, sent_ns, end_ns, to),
    ]
    if trace.began_s is not None:
        times, links = (began_ns, _at(trace.unix_ns, trace.computed_s)), trace.batches[:MAX_LINKS]
        batches = model | {"embedmq.batches": len(trace.batches)}
        spans.append(Span(f"encode {place.model}", trace.encode, process, *times, batches, links=links))
    return spans


def _within_queue(trace: Trace, end_ns: int) -> list[Span]:
    """What a request waited for before the device began with it."""
    unix_ns, model, spans = trace.unix_ns, trace.place.model, list[Span]()
    cut_ns = None if trace.cut_s is None else _at(unix_ns, _cut_from_s(trace, trace.cut_s))
    if trace.absent_s is not None:
        absent_ns, loading = _at(unix_ns, trace.absent_s), trace.loading
        links = [loading.own] if loading is not None and loading.own is not None and not trace.loaded_here else []
        until_ns = end_ns if cut_ns is None or cut_ns < absent_ns else cut_ns
        said = {"embedmq.model": model}
        spans.append(Span(f"wait {model}", trace.wait, trace.queue, absent_ns, until_ns, said, links=links))
        if loading is not None and loading.own is not None and trace.loaded_here:
            times = _at(unix_ns, loading.start_s), _at(unix_ns, loading.end_s)
            spans.append(Span(f"load {model}", loading.own, trace.wait, *times, said))
    if cut_ns is not None and trace.cut_s is not None:
        times = cut_ns, _at(unix_ns, trace.cut_s)
        spans.append(Span(f"tokenize {model}", child(trace.queue), trace.queue, *times, {"embedmq.model": model}))
    return spans


def _cut_from_s(trace: Trace, cut_s: float) -> float:
    """When its texts began to be cut: after what came before, although lengths are rounded."""
    before = [trace.read_s, trace.absent_s, trace.loading.end_s if trace.loading is not None else None]
    return max(cut_s - trace.cutting_s, *(moment for moment in before if moment is not None and moment <= cut_s))


def _process(trace: Trace, ended: Ended, start_ns: int, end_ns: int) -> Span:
    """As the semantic conventions for messaging have it, version 1.44.0 (status: development)."""
    place = trace.place
    attributes: dict[str, Value] = {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": place.topic,
        "messaging.destination.partition.id": str(place.partition),
        "messaging.kafka.offset": place.offset,
        "messaging.consumer.group.name": place.group,
        "messaging.message.id": place.id,
        "embedmq.model": place.model,
        "embedmq.lane": place.lane,
        "embedmq.attempt": place.attempt,
        "embedmq.items": ended.items,
        "embedmq.tokens": ended.tokens,
        "embedmq.code": ended.code,
        "embedmq.tried_again": ended.tried_again,
    }
    if place.tenant:
        attributes["embedmq.tenant"] = place.tenant
    error = "" if ended.code == "ok" else ended.code
    if error:
        attributes["error.type"] = error
    name, links = f"process {place.topic}", [trace.parent] if trace.parent is not None else []
    return Span(name, trace.process, trace.parent, start_ns, end_ns, attributes, "consumer", links, error)


def _at(unix_ns: int, moment_s: float) -> int:
    return unix_ns + int(moment_s * 1e9)
