"""Which items of a batch are computed, and which are identical to one that is computed already, or by another batch?

Identical is what gets the same vector in any case: the same loaded model, options, query and text. Only successes are
shared: whoever was to have the vector of an item that failed is computed by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec import Struct

from embedmq_worker.decode import content_of
from embedmq_worker.engine.seam import Encoded, ModelFacts
from embedmq_worker.jobs import Job, Part, without_items
from embedmq_worker.peers import Peers, Scope, keys


class Twin(Struct, frozen=True, eq=False, gc=False):
    """One item that is not computed: its vector is there, or will be once `done`."""

    job: Job
    index: int
    done: asyncio.Event | None


class Twins:
    """Knows all that is in flight, from being cut into tokens until it is delivered or dropped.

    Most texts are unlike all others, and cost a look when they come and when they go. Only when a twin comes, it is
    noted what the batches compute that are under way.
    """

    def __init__(self) -> None:
        self._peers: dict[Scope, Peers] = {}
        self._surplus = 0
        self._unclaimed: dict[asyncio.Event, tuple[Sequence[Part], ModelFacts]] = {}

    @property
    def empty(self) -> bool:
        """Whether nothing is in flight."""
        return not self._peers and not self._surplus and not self._unclaimed

    def enter(self, jobs: Sequence[Job], facts: ModelFacts) -> None:
        """Jobs are ready for the device; one that was ready before may have another model now.

        What is to run alone stays out: it may break the device, and is to do so without anybody's help.
        """
        surplus = self._surplus
        peers = None
        for job in jobs:
            if job.peers is not None:
                self.leave(job)
            if job.alone:
                continue
            items, query = content_of(job)
            if peers is None or job.options is not peers.scope[1] or query != peers.scope[2]:
                peers = self._of((id(facts), job.options, query), facts)
            job.peers, job.keys = peers, keys(items)
            self._surplus += peers.enter(job.keys)
        if self._surplus > surplus:
            self._claim_under_way()

    def leave(self, job: Job) -> None:
        """A job is no longer in flight, if it was."""
        peers = job.peers
        if peers is not None:
            self._surplus -= peers.leave(job.keys)
            if not peers.held:
                del self._peers[peers.scope]
            job.peers, job.keys = None, ()

    def divide(
        self, parts: Sequence[Part], facts: ModelFacts, done: asyncio.Event
    ) -> tuple[Sequence[Part], Sequence[Twin]]:
        """Divide a batch into what it is to compute, in the same order, and the twins of that and of other batches.

        Whoever divides it calls `finish` when all of it was computed or has failed; others may wait for that. What has
        other facts than the model by now is computed without a look at others.
        """
        if not self._surplus and not any(part.job.peers is not None and part.job.peers.found for part in parts):
            self._unclaimed[done] = parts, facts
            return parts, ()
        own: list[Part] = []
        twins: list[Twin] = []
        for part in parts:
            found = _claim(part, facts, done)
            twins += found
            own += without_items(part, [twin.index for twin in found])
        return own if twins else parts, twins

    def narrow(self, done: asyncio.Event, parts: Sequence[Part]) -> None:
        """Of a batch that was divided, only these parts are still to be computed: twins of others need not wait."""
        if done in self._unclaimed:
            self._unclaimed[done] = parts, self._unclaimed[done][1]

    def share(self, part: Part, vectors: Encoded, facts: ModelFacts) -> None:
        """A part was computed: let twins of its items have their vectors, but of none that failed."""
        job = part.job
        peers = job.peers
        if not self._surplus or peers is None or peers.facts is not facts:
            return
        faults = job.prepared.faults
        for index in range(part.start, part.stop):
            if index not in faults:
                peers.keep(job.keys[index], vectors, index - part.start)

    def finish(self, done: asyncio.Event) -> None:
        """A batch is computed, as far as it can be: whoever waits for it may look."""
        self._unclaimed.pop(done, None)
        done.set()

    def _of(self, scope: Scope, facts: ModelFacts) -> Peers:
        peers = self._peers.get(scope)
        if peers is None:
            peers = self._peers[scope] = Peers(facts, scope)
        return peers

    def _claim_under_way(self) -> None:
        """There are twins from now on: note what was on its way before."""
        for done, (parts, facts) in self._unclaimed.items():
            for part in parts:
                _claim(part, facts, done)
        self._unclaimed.clear()


def vector(twin: Twin) -> Encoded | None:
    """What a twin gets; None if nothing came of the other."""
    job = twin.job
    return None if job.peers is None else job.peers.vector(job.keys[twin.index])


def _claim(part: Part, facts: ModelFacts, done: asyncio.Event) -> list[Twin]:
    """Claim items, to be computed by whoever sets `done`; returns those that are not his to compute."""
    job = part.job
    peers, faults = job.peers, job.prepared.faults
    if peers is None or peers.facts is not facts:
        return []
    twins: list[Twin] = []
    for index in range(part.start, part.stop):
        found = None if index in faults else peers.claim(job.keys[index], done)
        if found is not None:
            twins.append(Twin(job, index, found if isinstance(found, asyncio.Event) else None))
    return twins
