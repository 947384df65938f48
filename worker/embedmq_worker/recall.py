"""Which items of a batch were computed before, and what of this batch is to be found the next time?"""

from __future__ import annotations

from collections.abc import Sequence

from embedmq_schemas.requests import Item
from msgspec import Struct

from embedmq_worker.bisect import hand
from embedmq_worker.content import Digest, digests, seal, unseal
from embedmq_worker.contents import Contents
from embedmq_worker.decode import content_of
from embedmq_worker.engine.seam import Encoded, ModelFacts
from embedmq_worker.jobs import Part, without_items
from embedmq_worker.peers import pick
from embedmq_worker.twins import Twins


class Asked(Struct, frozen=True, eq=False):
    """What the cache said to a batch: how many items it had, and of the others the hashes, by job and index."""

    hits: int
    missed: dict[tuple[int, int], bytes]


class Recall:
    """Asks the cache before a batch, and tells it after; a cache that is away has nothing and takes nothing."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._noted: list[tuple[bytes, Encoded]] = []

    async def answer(
        self, model: str, parts: Sequence[Part], facts: ModelFacts, twins: Twins
    ) -> tuple[Sequence[Part], Asked]:
        """Hand out what the cache has, to twins as well; returns what it has not."""
        wanted = _digests(model, parts, facts)
        values = await self._contents.read([digest for *_, digest in wanted])
        missed: dict[tuple[int, int], bytes] = {}
        gone: dict[int, list[int]] = {}
        for (part, index, digest), value in zip(wanted, values, strict=True):
            job = part.job
            vectors = None if value is None else unseal(digest, value, facts, job.options)
            if vectors is None:
                missed[id(job), index] = digest
                continue
            one = Part(job, index, index + 1)
            hand(one, vectors, 0.0)
            twins.share(one, vectors, facts)
            gone.setdefault(id(part), []).append(index)
        left = [run for part in parts for run in without_items(part, gone.get(id(part), ()))]
        return left, Asked(len(wanted) - len(missed), missed)

    def note(self, asked: Asked, part: Part, vectors: Encoded) -> None:
        """The device computed a part: what of it was missed, and has not failed, is kept with the next `store`."""
        faults = part.job.prepared.faults
        for index in range(part.start, part.stop):
            digest = asked.missed.get((id(part.job), index))
            if digest is not None and index not in faults:
                self._noted.append((digest, pick(vectors, index - part.start)))

    async def store(self) -> None:
        """Write what was noted: as much as may be at a time, the rest is forgotten."""
        noted, self._noted = self._noted, []
        if noted:
            await self._contents.write([(digest, seal(digest, vectors)) for digest, vectors in noted])


def _digests(model: str, parts: Sequence[Part], facts: ModelFacts) -> list[tuple[Part, int, bytes]]:
    """The hash of each item that has no fault yet."""
    wanted: list[tuple[Part, int, bytes]] = []
    known: dict[int, tuple[Sequence[Item], Digest]] = {}
    for part in parts:
        job = part.job
        if id(job) not in known:
            items, query = content_of(job)
            known[id(job)] = items, digests(model, facts, job.options, query)
        items, digest = known[id(job)]
        faults = job.prepared.faults
        wanted += [(part, i, digest(items[i])) for i in range(part.start, part.stop) if i not in faults]
    return wanted
