"""Who holds which partitions while a decision is being made, and how much is that? Pure."""

from __future__ import annotations

from collections.abc import Sequence


class Ledger:
    """The partitions of each unit by worker, and what each worker carries. Units and workers are numbers.

    Loads and sizes are whole numbers, so that a sum does not depend on the order in which it came about.
    """

    def __init__(
        self, weights: Sequence[int], sizes: Sequence[int], fair: Sequence[int], memory: Sequence[int]
    ) -> None:
        """`weights` are of one partition, `sizes` of the model, of each unit; `fair` is the share of the load, `memory`
        the bytes, of each worker (0 bytes: not known, and never full).
        """
        self.weights, self.sizes, self.fair, self.memory = weights, sizes, fair, memory
        self.homes: list[dict[int, list[int]]] = [{} for _ in weights]
        self.units: list[set[int]] = [set() for _ in fair]
        self.loads = [0] * len(fair)
        self.used = [0] * len(fair)

    def give(self, unit: int, worker: int, partitions: Sequence[int]) -> None:
        """Add to what a worker holds."""
        held = self.homes[unit].get(worker)
        if held is None:
            held = self.homes[unit][worker] = []
            self.units[worker].add(unit)
            self.used[worker] += self.sizes[unit]
        held.extend(partitions)
        self.loads[worker] += self.weights[unit] * len(partitions)

    def take(self, unit: int, worker: int, count: int) -> list[int]:
        """Take partitions away from a worker, the highest first."""
        held = sorted(self.homes[unit][worker])
        left, taken = held[: len(held) - count], held[len(held) - count :]
        if left:
            self.homes[unit][worker] = left
        else:
            del self.homes[unit][worker]
            self.units[worker].discard(unit)
            self.used[worker] -= self.sizes[unit]
        self.loads[worker] -= self.weights[unit] * len(taken)
        return taken

    def load(self, worker: int) -> float:
        """What a worker carries, by its fair share."""
        return self.loads[worker] / self.fair[worker]

    def has_memory(self, unit: int, worker: int) -> bool:
        """Whether a worker holds a unit's model already, or its memory has room for it."""
        memory = self.memory[worker]
        return not memory or worker in self.homes[unit] or self.used[worker] + self.sizes[unit] <= memory

    def lacks_memory(self, worker: int) -> bool:
        """Whether a worker holds more models than its memory takes."""
        return 0 < self.memory[worker] < self.used[worker]
