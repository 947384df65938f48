"""What travels along the road? One request with its place in the log, and what became of it."""

# `gc=False`: one of each is made per record, and none can be part of a cycle, so the collector need not look at them.

from __future__ import annotations

from collections.abc import Sequence

from embedmq_schemas.envelope import Envelope, Record
from embedmq_schemas.journey import Journey
from embedmq_schemas.requests import Request
from embedmq_schemas.results import Result
from msgspec import Struct

from embedmq_worker.engine.seam import Encoded, Fault, Options, Prepared
from embedmq_worker.peers import Key, Peers
from embedmq_worker.progress import Progress
from embedmq_worker.trace import Trace


class Cost(Struct, frozen=True, gc=False):
    """What holding one request takes: bytes (raw, decoded and of its result), items, tokens."""

    bytes: int
    items: int = 0
    tokens: int = 0


class Job(Struct, eq=False, gc=False):
    """One record on its way: `remaining` items still lack a vector; `encoded` has what is there, by first item.

    `alone` says that it may break the device, and gets a batch of its own; `suspect` that processes died with it, or
    with a neighbour of it; `exhausted` that memory ran out on one of its items alone; `charged` that its tenant has
    paid. `peers` are those whose items may be the same as its own, which are `keys` to them. `trace` has what is noted
    of it, if its trace is recorded.
    """

    record: Record
    progress: Progress
    envelope: Envelope
    arrived_s: float
    cost: Cost
    request: Request | None = None
    options: Options = Options()
    prepared: Prepared = Prepared([], None, [], {})
    alone: bool = False
    suspect: bool = False
    remaining: int = 0
    encoded: list[tuple[int, Encoded]] = []  # msgspec copies an empty list for each instance
    tokenize_ms: float = 0.0
    queue_ms: float = 0.0
    forward_ms: float = 0.0
    answered: bool = False
    exhausted: bool = False
    charged: bool = False
    peers: Peers | None = None
    keys: Sequence[Key] = ()
    trace: Trace | None = None


class Part(Struct, frozen=True, eq=False, gc=False):
    """The items `start` up to `stop` of a job, for one batch."""

    job: Job
    start: int
    stop: int


def without_items(part: Part, gone: Sequence[int]) -> list[Part]:
    """What is left of a part without some of its items, whose indices ascend."""
    left: list[Part] = []
    start = part.start
    for index in gone:
        if start < index:
            left.append(Part(part.job, start, index))
        start = index + 1
    if start < part.stop:
        left.append(Part(part.job, start, part.stop) if gone else part)
    return left


def size(parts: Sequence[Part]) -> tuple[int, int]:
    """Items and tokens of parts."""
    counts = [part.job.prepared.tokens[part.start : part.stop] for part in parts]
    return sum(map(len, counts)), sum(map(sum, counts))


class Batch(Struct, frozen=True, eq=False):
    """What goes to the device together: parts of jobs for one model."""

    model: str
    parts: Sequence[Part]
    items: int
    tokens: int

    @property
    def alone(self) -> bool:
        """Whether nothing else may be on the device: such a batch is of one job only."""
        return self.parts[0].job.alone


class Outcome(Struct, frozen=True, eq=False, gc=False):
    """A finished request and what its caller gets."""

    job: Job
    result: Result


class Retry(Struct, frozen=True, eq=False, gc=False):
    """A request that goes to the retry topic of `delay_s`, with the reason and what is written on it."""

    job: Job
    fault: Fault
    journey: Journey
    delay_s: int


class Stray(Struct, frozen=True, eq=False, gc=False):
    """A request for a model that this worker does not have; another may."""

    job: Job


Ending = Outcome | Retry
"""How a request leaves this worker."""


class Load(Struct, eq=False):
    """What was decoded together: jobs, strays, and what has ended at once."""

    jobs: list[Job] = []
    strays: list[Job] = []
    endings: list[Ending] = []

    def add(self, found: Job | Ending | Stray) -> None:
        """Put one record where it belongs."""
        if isinstance(found, Job):
            self.jobs.append(found)
        elif isinstance(found, Stray):
            self.strays.append(found.job)
        else:
            self.endings.append(found)


def deadline_unix_ms(job: Job) -> float:
    """When a request is no longer wanted; never is infinite."""
    deadline = job.request.deadline_unix_ms if job.request is not None else None
    return float("inf") if deadline is None else deadline


def begin_anew(job: Job) -> Job:
    """Forget what was computed of a job: it waits again, and is computed from its first item on."""
    if job.encoded:
        job.remaining, job.encoded = len(job.prepared.tokens), []
    return job
