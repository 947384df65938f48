"""Which items of a batch are computed, and which are identical to one that is computed already, or by another batch?

Identical is what gets the same vector in any case: the same loaded model, options, query and text. Only successes are
shared: whoever was to have the vector of an item that failed is computed by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec import Struct

from embedmq_worker.decode import ask
from embedmq_worker.engine.seam import Ask, Encoded, ModelFacts
from embedmq_worker.jobs import Job, Part, without_items
from embedmq_worker.peers import Peers, Scope


class Twin(Struct, frozen=True, eq=False, gc=False):
    """One item that is not computed: its vector is there, or will be once `done`."""

    job: Job
    index: int
    done: asyncio.Event | None


class Twins:
    """Knows all that is in flight, from being cut into tokens until it is delivered or dropped."""

    def __init__(self) -> None:
        self._peers: dict[Scope, Peers] = {}

    @property
    def empty(self) -> bool:
        """Whether nothing is in flight."""
        return not self._peers

    def enter(self, jobs: Sequence[Job], facts: ModelFacts) -> None:
        """Jobs are ready for the device; one that was ready before may have another model now.

        What is to run alone stays out: it may break the device, and is to do so without anybody's help.
        """
        last, peers = None, None
        for job in jobs:
            if job.peers is not None:
                self.leave(job)
            if job.alone:
                continue
            wanted = ask(job)
            if peers is None or last is None or wanted.options is not last.options or wanted.query != last.query:
                last, peers = wanted, self._of(facts, wanted)
            job.peers = peers
            job.keys = [item if isinstance(item, str) else tuple(item) for item in wanted.items]
            peers.enter(job.keys)

    def leave(self, job: Job) -> None:
        """A job is no longer in flight, if it was."""
        peers = job.peers
        if peers is not None:
            peers.leave(job.keys)
            if not peers.held:
                del self._peers[peers.scope]
            job.peers, job.keys = None, ()

    def _of(self, facts: ModelFacts, wanted: Ask) -> Peers:
        scope = (id(facts), wanted.options, wanted.query)
        peers = self._peers.get(scope)
        if peers is None:
            peers = self._peers[scope] = Peers(facts, scope)
        return peers


def divide(parts: Sequence[Part], facts: ModelFacts, done: asyncio.Event) -> tuple[Sequence[Part], list[Twin]]:
    """Divide a batch into what it is to compute, in the same order, and the twins of that and of other batches.

    Whoever divides it sets `done` when all of it was computed or has failed; others may wait for that. What has other
    facts than the model by now is computed without a look at others.
    """
    own: list[Part] = []
    twins: list[Twin] = []
    for part in parts:
        gone = _claim(part, facts, done, twins)
        if gone:
            own += without_items(part, gone)
        else:
            own.append(part)
    return own if twins else parts, twins


def share(part: Part, vectors: Encoded, facts: ModelFacts) -> None:
    """A part was computed: let twins of its items have their vectors, but of none that failed."""
    job = part.job
    peers = job.peers
    if peers is None or peers.distinct or peers.facts is not facts:
        return
    keys, faults = job.keys, job.prepared.faults
    for index in range(part.start, part.stop):
        if index not in faults:
            peers.keep(keys[index], vectors, index - part.start)


def vector(twin: Twin) -> Encoded | None:
    """What a twin gets; None if nothing came of the other."""
    job = twin.job
    return None if job.peers is None else job.peers.vector(job.keys[twin.index])


def _claim(part: Part, facts: ModelFacts, done: asyncio.Event, twins: list[Twin]) -> list[int]:
    """Claim items to be computed here; the others, whose indices are returned, join `twins`."""
    job = part.job
    peers, keys, faults = job.peers, job.keys, job.prepared.faults
    gone: list[int] = []
    if peers is None or peers.facts is not facts:
        return gone
    if not faults and peers.claim_all(keys[part.start : part.stop], done):
        return gone
    for index in range(part.start, part.stop):
        if index not in faults and (found := peers.claim(keys[index], done)) is not None:
            twins.append(Twin(job, index, found if isinstance(found, asyncio.Event) else None))
            gone.append(index)
    return gone
