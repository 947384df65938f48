"""What travels along the road? One request with its place in the log, and what became of it."""

# `gc=False`: one of each is made per record, and none can be part of a cycle, so the collector need not look at them.

from __future__ import annotations

from embedmq_schemas.envelope import Envelope, Record
from embedmq_schemas.requests import Request
from embedmq_schemas.results import Result
from msgspec import Struct

from embedmq_worker.engine.seam import Encoded, Options, Prepared
from embedmq_worker.progress import Progress


class Cost(Struct, frozen=True, gc=False):
    """What holding one request takes: bytes (raw, decoded and of its result), items, tokens."""

    bytes: int
    items: int = 0
    tokens: int = 0


class Job(Struct, eq=False, gc=False):
    """One record on its way: `remaining` items still lack a vector; `encoded` has what is there, by first item.

    `checked` says whether the request was held against its model's facts, which are known once the model was loaded.
    """

    record: Record
    progress: Progress
    envelope: Envelope
    arrived_s: float
    cost: Cost
    request: Request | None = None
    options: Options = Options()
    prepared: Prepared = Prepared([], None, [], {})
    checked: bool = False
    remaining: int = 0
    encoded: list[tuple[int, Encoded]] = []  # msgspec copies an empty list for each instance
    tokenize_ms: float = 0.0
    queue_ms: float = 0.0
    forward_ms: float = 0.0
    answered: bool = False


class Part(Struct, frozen=True, eq=False, gc=False):
    """The items `start` up to `stop` of a job, for one batch."""

    job: Job
    start: int
    stop: int


class Batch(Struct, frozen=True, eq=False):
    """What goes to the device together: parts of jobs for one model."""

    model: str
    parts: list[Part]
    items: int
    tokens: int


class Outcome(Struct, frozen=True, eq=False, gc=False):
    """A finished request and what its caller gets."""

    job: Job
    result: Result
