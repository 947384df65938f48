"""Which few moves make an assignment even again, and bring a model's requests together? Pure.

Four kinds, in turn, until none is left: *gather* a model that lives on more workers than it should, into those that
stay; *fill* who carries too little; *relieve* who carries too much; *unload* idle models from who has too many. Each
makes smaller, in this order: what is carried above the limit, the homes that are too many, the bytes that are too many,
the squares of the loads. So it ends, and when nothing has changed since, nothing moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from embedmq_worker.ledger import Ledger
from embedmq_worker.placing import Placing

ROUNDS: Final = 64
"""A limit for what ends by itself, nearly always after two or three."""
LOW: Final = 0.125
"""Who carries so much less than its fair share is filled up."""
LOOK: Final = 128
"""At how many units a worker looks that carries too little, those first that prefer it most."""


LOOKS: Final = 20_000
"""At how many units all of them look together in one decision, those first that carry least: it holds up a loop."""


class Mover:
    """Moves partitions, while there are moves left. What is cold, or was not held before, moves for nothing."""

    def __init__(
        self, ledger: Ledger, before: Sequence[Mapping[int, int]], is_cold: Callable[[int, int], bool], most: int
    ) -> None:
        self._ledger, self._before, self._is_cold = ledger, before, is_cold
        self.left = most
        self.moved = 0

    def can(self, unit: int, worker: int, count: int) -> bool:
        """Whether so many may leave a worker."""
        return count <= self.left or self._cost(unit, worker, self._ledger.homes[unit][worker]) <= self.left

    def move(self, unit: int, worker: int, to: int, count: int) -> None:
        """Move the highest ones."""
        taken = self._ledger.take(unit, worker, count)
        self.left -= self._cost(unit, worker, taken)
        self._ledger.give(unit, to, taken)
        self.moved += count

    def _cost(self, unit: int, worker: int, partitions: Sequence[int]) -> int:
        if self._is_cold(unit, worker):
            return 0
        before = self._before[unit]
        return sum(before.get(partition) == worker for partition in partitions)


class Mending:
    """The moves of one decision."""

    def __init__(
        self,
        ledger: Ledger,
        most_homes: Sequence[int],
        placing: Placing,
        mover: Mover,
        resident: Sequence[frozenset[int]],
    ) -> None:
        self._ledger, self._most, self._resident = ledger, most_homes, resident
        self._placing, self._mover = placing, mover
        self._looks = LOOKS

    def run(self) -> None:
        """Mend until there is nothing to mend, or no move left."""
        for _ in range(ROUNDS):
            moved = self._mover.moved
            for unit, homes in enumerate(self._ledger.homes):
                while len(homes) > self._most[unit] and self._gather(unit):
                    pass
            low = [worker for worker in range(len(self._ledger.fair)) if self._is_low(worker)]
            for worker in sorted(low, key=lambda worker: (self._ledger.load(worker), worker)):
                if self._looks > 0:
                    self._fill(worker)
            for worker in range(len(self._ledger.fair)):
                if self._placing.excess(worker) > 0:
                    self._relieve(worker)
                if self._ledger.lacks_memory(worker):
                    self._unload(worker)
            if self._mover.moved == moved:
                return

    def _gather(self, unit: int) -> bool:
        """Close one home, of those without the model in memory first; whether there was one to close."""
        homes, resident = self._ledger.homes[unit], self._resident[unit]
        for home in sorted(homes, key=lambda worker: (worker in resident, len(homes[worker]), worker)):
            count = len(homes[home])
            rooms = {worker: self._placing.room(unit, worker) for worker in homes if worker != home}
            if sum(rooms.values()) < count or not self._mover.can(unit, home, count):
                continue
            for _ in range(count):
                to = min((w for w in rooms if rooms[w]), key=lambda worker: (len(homes[worker]), worker))
                self._mover.move(unit, home, to, 1)
                rooms[to] -= 1
            return True
        return False

    def _relieve(self, worker: int) -> None:
        """Let units go, the cold and light ones first, until a worker carries what it may."""
        ledger, resident = self._ledger, self._resident
        units = sorted(ledger.units[worker], key=lambda unit: (worker in resident[unit], ledger.weights[unit], unit))
        for unit in units:
            while worker in ledger.homes[unit] and self._placing.excess(worker) > 0:
                alone = ledger.loads[worker] == ledger.weights[unit]  # nobody could do better with it
                to = None if alone or not self._mover.can(unit, worker, 1) else self._refuge(unit, worker)
                if to is None:
                    break
                self._mover.move(unit, worker, to, 1)

    def _refuge(self, unit: int, worker: int) -> int | None:
        homes = self._ledger.homes[unit]
        rooms = [other for other in homes if other != worker and self._placing.room(unit, other)]
        if rooms:
            return min(rooms, key=lambda other: (self._ledger.load(other), other))
        return self._placing.next_home(unit, 1)

    def _unload(self, worker: int) -> None:
        """Let models go that are not in memory anyway, until the others have room there."""
        ledger, resident = self._ledger, self._resident
        for unit in sorted(unit for unit in ledger.units[worker] if worker not in resident[unit]):
            if not ledger.lacks_memory(worker):
                return
            count = len(ledger.homes[unit][worker])
            to = self._placing.next_home(unit, count) if ledger.sizes[unit] else None
            if to is not None and ledger.has_memory(unit, to) and self._mover.can(unit, worker, count):
                self._mover.move(unit, worker, to, count)

    def _is_low(self, worker: int) -> bool:
        return self._ledger.load(worker) < 1 - LOW

    def _fill(self, worker: int) -> None:
        """Take from who carries more, first what prefers this worker; a home moves whole, or is shared if it may be."""
        placing = self._placing
        for unit in placing.preferences.fondest(worker, placing.keys, LOOK):
            self._looks -= 1
            if self._ledger.load(worker) >= 1 or self._looks < 0:
                return
            if not placing.eligible[unit][worker] or not self._ledger.has_memory(unit, worker):
                continue
            for home in sorted(self._ledger.homes[unit], key=lambda other: (-self._ledger.load(other), other)):
                if home != worker and (count := self._to_take(unit, home, worker)):
                    self._mover.move(unit, home, worker, count)
                    break

    def _to_take(self, unit: int, home: int, worker: int) -> int:
        """How many partitions of a unit may go from one worker to another, so that the loads of the two come closer."""
        ledger, homes = self._ledger, self._ledger.homes[unit]
        whole = len(homes[home])
        shared = worker in homes or len(homes) < self._most[unit]
        for count in range(whole, 0 if shared else whole - 1, -1):
            weight = ledger.weights[unit] * count
            after = (ledger.loads[worker] + weight) / ledger.fair[worker]
            left = (ledger.loads[home] - weight) / ledger.fair[home]
            if after <= left and self._mover.can(unit, home, count):
                return count
        return 0
