"""Where does what nobody holds go? To who has its model in memory, else to who is preferred, and has room. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedmq_worker.ledger import Ledger
from embedmq_worker.rendezvous import Rendezvous

SLACK: Final = 0.25
"""How much more than its fair share a worker may carry before something is put elsewhere."""
CANDIDATES: Final = 32
"""How many workers are asked by preference, at least: twice as many as may be homes. When none of them has room,
whoever carries least gets it."""


class Placing:
    """Gives partitions to workers. Workers above `1 + SLACK` get no more while there are others."""

    def __init__(
        self,
        ledger: Ledger,
        most_homes: Sequence[int],
        preferences: Rendezvous,
        keys: NDArray[np.uint64],
        eligible: Sequence[NDArray[np.bool_]],
        resident: Sequence[frozenset[int]],
    ) -> None:
        self.eligible, self.keys, self.preferences = eligible, keys, preferences
        self._ledger, self._most, self._resident = ledger, most_homes, resident
        self._limits = [int(fair * (1 + SLACK)) for fair in ledger.fair]
        self._ranked: dict[int, list[int]] = {}

    def place_all(self, orphans: Mapping[int, list[int]]) -> None:
        """Place the partitions of some units, the heaviest unit first."""
        self._rank(list(orphans))
        for unit in sorted(orphans, key=lambda unit: (-self._ledger.weights[unit] * len(orphans[unit]), unit)):
            self._place(unit, orphans[unit])

    def excess(self, worker: int) -> int:
        """By how much a worker is above what it may carry; below 0 for those who may carry more."""
        return self._ledger.loads[worker] - self._limits[worker]

    def room(self, unit: int, worker: int) -> int:
        """How many more partitions of a unit a worker may get. Who carries nothing can always take one."""
        load = self._ledger.loads[worker]
        free = (self._limits[worker] - load) // self._ledger.weights[unit]
        return free if free > 0 else int(not load)

    def candidates(self, unit: int) -> list[int]:
        """Who may become a home of a unit: first who has its model in memory, then by preference."""
        if unit not in self._ranked:
            self._rank([unit])
        homes, ranked = self._ledger.homes[unit], self._ranked[unit]
        resident = self._resident[unit]
        warm = sorted(worker for worker in resident if self.eligible[unit][worker]) if resident else []
        return [worker for worker in dict.fromkeys([*warm, *ranked]) if worker not in homes]

    def next_home(self, unit: int, wanted: int) -> int | None:
        """Who gets so many partitions of a unit, having none: the first with room in memory, if there is one."""
        first: int | None = None
        for worker in self.candidates(unit):
            if self.room(unit, worker) >= wanted:
                if self._ledger.has_memory(unit, worker):
                    return worker
                first = worker if first is None else first
        return first

    def _rank(self, units: Sequence[int]) -> None:
        """By number of candidates, so that the many rare models are ranked at once."""
        by_number: defaultdict[int, list[int]] = defaultdict(list)
        for unit in units:
            by_number[max(CANDIDATES, 2 * self._most[unit])].append(unit)
        for number, alike in by_number.items():
            eligible = [self.eligible[unit] for unit in alike]
            best = self.preferences.best(self.keys[alike], eligible, number)
            self._ranked.update(zip(alike, best, strict=True))

    def _place(self, unit: int, partitions: list[int]) -> None:
        homes, left = self._ledger.homes[unit], partitions
        share = -(-(sum(map(len, homes.values())) + len(left)) // self._most[unit])
        while left:
            home = None
            if len(homes) < self._most[unit]:
                home = self.next_home(unit, min(share, len(left)))
            given = share if home is not None else 1
            if home is None:
                home = self._roomiest(unit)
            self._ledger.give(unit, home, left[:given])
            left = left[given:]

    def _roomiest(self, unit: int) -> int:
        """For one partition: a home with room, else another worker with room, else whoever carries least."""
        homes = self._ledger.homes[unit]
        open_ = [worker for worker in homes if self.room(unit, worker)]
        if open_:
            return min(open_, key=lambda worker: (len(homes[worker]), self._ledger.load(worker), worker))
        other = self.next_home(unit, 1)
        if other is not None:
            return other
        return min(np.flatnonzero(self.eligible[unit]).tolist(), key=lambda worker: (self._ledger.load(worker), worker))
