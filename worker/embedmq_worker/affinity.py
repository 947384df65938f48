"""Which worker reads which partition, so that a model's requests arrive where it is in memory? Pure.

1. Everybody keeps what they held.
2. What nobody holds goes, heaviest first, to workers that have its model in memory, then by rendezvous (`rendezvous`).
3. A little is moved to mend what has become uneven (`mending`).

How many workers share a model is decided by memory (`homes`). Load is what arrives, in tokens/s, by what a worker can
compute; a fair share is one of what may be read. Where all members read the same topics, a decision from nothing leaves
no worker with more than `(1 + SLACK) × its fair share + the heaviest partition`; one that begins with what was held
comes as close as `MOST_MOVED` allows, and each further one closer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from embedmq_worker.homes import count_homes
from embedmq_worker.ledger import Ledger
from embedmq_worker.mending import Mending, Mover
from embedmq_worker.placing import Placing
from embedmq_worker.rendezvous import Rendezvous, hashes
from embedmq_worker.standing import Told
from embedmq_worker.traffic import capacities, sizes_bytes, weights
from embedmq_worker.units import divide

MOST_MOVED: Final = 0.02
"""Part of all partitions that one decision may take from workers that live and hold their model in memory, beside the
share of those who have just joined."""


class Member(Struct, frozen=True):
    """One member of the group: what it subscribes to, and what it told."""

    topics: frozenset[str]
    told: Told = Told()


def decide(partitions: Mapping[str, Sequence[int]], members: Mapping[str, Member]) -> dict[str, dict[str, list[int]]]:
    """Give each partition to one member that subscribes to its topic; those of a topic nobody reads to nobody.

    Equal input gives an equal decision. Costs about what was not held before, times the members.
    """
    return _Case(partitions, members).decide() if members else {}


class _Case:
    """One decision; members and units are numbered, in an order that any leader of any group finds."""

    def __init__(self, partitions: Mapping[str, Sequence[int]], members: Mapping[str, Member]) -> None:
        self.names = sorted(members, key=lambda name: (members[name].told.worker, name))
        self.told = [members[name].told for name in self.names]
        topics = [members[name].topics for name in self.names]
        kinds = {kind: number for number, kind in enumerate(dict.fromkeys(topics))}
        self.kind = np.array([kinds[theirs] for theirs in topics])
        read = {topic for kind in kinds for topic in kind if topic in partitions}
        self.units = divide({topic: partitions[topic] for topic in read})
        self.eligible = self._eligible(list(kinds))
        self.before = self._before()
        self.resident = self._resident()
        self.ledger, self.most_homes, self.preferences = self._weigh()

    def decide(self) -> dict[str, dict[str, list[int]]]:
        orphans = self._keep()
        keys = hashes([unit.key for unit in self.units])
        placing = Placing(self.ledger, self.most_homes, self.preferences, keys, self.eligible, self.resident)
        placing.place_all(orphans)
        mover = Mover(self.ledger, self.before, self._is_cold, self._most_moved())
        Mending(self.ledger, self.most_homes, placing, mover, self.resident).run()
        found: dict[str, dict[str, list[int]]] = {name: {} for name in self.names}
        for unit, homes in zip(self.units, self.ledger.homes, strict=True):
            for worker in sorted(homes):
                found[self.names[worker]].setdefault(unit.topic, []).extend(homes[worker])
        return {name: {topic: sorted(numbers) for topic, numbers in topics.items()} for name, topics in found.items()}

    def _eligible(self, kinds: Sequence[frozenset[str]]) -> list[NDArray[np.bool_]]:
        """Who may read each unit. Topics that the same kinds of members read share an array."""
        masks: dict[tuple[int, ...], NDArray[np.bool_]] = {}
        found = []
        for unit in self.units:
            readers = tuple(number for number, kind in enumerate(kinds) if unit.topic in kind)
            if readers not in masks:
                masks[readers] = np.isin(self.kind, readers)
            found.append(masks[readers])
        return found

    def _before(self) -> list[dict[int, int]]:
        """Who held each partition of each unit, by the member of the latest round that says so."""
        held: dict[str, dict[int, tuple[int, int]]] = {}
        for worker, told in enumerate(self.told):
            for topic, numbers in told.owned.items():
                latest = held.setdefault(topic, {})
                for number in numbers:
                    if number not in latest or latest[number][0] < told.round:
                        latest[number] = (told.round, worker)
        return [
            {number: held[unit.topic][number][1] for number in unit.partitions if number in held[unit.topic]}
            if unit.topic in held
            else {}
            for unit in self.units
        ]

    def _resident(self) -> list[frozenset[int]]:
        """Who has the model of each unit in memory; of shared topics that is not known."""
        found: dict[str, list[int]] = {}
        for worker, told in enumerate(self.told):
            for model in told.standing.resident:
                found.setdefault(model, []).append(worker)
        sets = {model: frozenset(workers) for model, workers in found.items()}
        return [sets.get(unit.key, frozenset()) for unit in self.units]

    def _weigh(self) -> tuple[Ledger, list[int], Rendezvous]:
        standings = [told.standing for told in self.told]
        speeds, sizes = capacities(standings), sizes_bytes(self.units, standings)
        each = weights(self.units, standings)
        counts = [len(unit.partitions) for unit in self.units]
        loads = [weight * count for weight, count in zip(each, counts, strict=True)]
        fair = self._fair(loads, np.array(speeds, dtype=np.float64))
        memory = [standing.memory_bytes for standing in standings]
        homes = count_homes(
            np.array(loads, dtype=np.float64),
            np.array(counts, dtype=np.int64),
            np.array(sizes, dtype=np.float64),
            sum(loads) / len(standings),
            len(standings),
            float(sum(memory)) if all(memory) else 0.0,
        )
        names = [told.worker or name for told, name in zip(self.told, self.names, strict=True)]
        return Ledger(each, sizes, fair, memory), homes, Rendezvous(names, speeds)

    def _fair(self, loads: Sequence[int], speeds: NDArray[np.float64]) -> list[int]:
        """What each should carry, so that all who may read the same carry alike by their speed: what fewest may read is
        given out first, and each further load to those who have least by then.
        """
        totals: dict[int, int] = {}
        for mask, load in zip(self.eligible, loads, strict=True):
            totals[id(mask)] = totals.get(id(mask), 0) + load
        masks = sorted({id(mask): mask for mask in self.eligible}.items(), key=lambda item: int(item[1].sum()))
        levels = np.zeros(len(speeds))
        for key, mask in masks:
            levels[mask] = pour(levels[mask], speeds[mask], totals[key])
        return [max(1, round(share)) for share in (levels * speeds).tolist()]

    def _keep(self) -> dict[int, list[int]]:
        """Everybody keeps what they may still read; what is left, by unit."""
        orphans: dict[int, list[int]] = {}
        for number, unit in enumerate(self.units):
            before, mine = self.before[number], self.eligible[number]
            kept: dict[int, list[int]] = {}
            for partition in unit.partitions:
                worker = before.get(partition)
                if worker is not None and mine[worker]:
                    kept.setdefault(worker, []).append(partition)
                else:
                    orphans.setdefault(number, []).append(partition)
            for worker, numbers in kept.items():
                self.ledger.give(number, worker, numbers)
        return orphans

    def _is_cold(self, unit: int, worker: int) -> bool:
        """Whether a worker says what it has in memory, and that a unit's model is not among it."""
        known = self.told[worker].standing.memory_bytes > 0 and self.units[unit].key == self.units[unit].model
        return known and worker not in self.resident[unit]

    def _most_moved(self) -> int:
        fair, owned = self.ledger.fair, [bool(told.owned) for told in self.told]
        joined = sum(share for share, owns in zip(fair, owned, strict=True) if not owns)
        count = sum(len(unit.partitions) for unit in self.units)
        return int(np.ceil(count * (MOST_MOVED + joined / sum(fair))))


def pour(levels: NDArray[np.float64], widths: NDArray[np.float64], amount: float) -> NDArray[np.float64]:
    """Vessels of such widths, filled so high, after water was poured over all: the lowest rise until they are level."""
    order = np.argsort(levels, kind="stable")
    filled = (amount + np.cumsum(levels[order] * widths[order])) / np.cumsum(widths[order])
    over = np.append(levels[order][1:], np.inf)
    level: float = filled[np.argmax(filled <= over)]
    return np.maximum(levels, level)
