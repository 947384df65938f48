"""How heavy is a partition, how large a model, how fast a worker, by what the members tell? Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from embedmq_worker.standing import Standing
from embedmq_worker.units import Unit

FLOOR: Final = 0.1
"""What a partition counts at least, by the mean of all: quiet ones are spread, too, and may wake up."""
SCALE: Final = 1_000
"""Loads are counted in thousandths of a token/s."""


def weights(units: Sequence[Unit], standings: Sequence[Standing]) -> list[int]:
    """The load of one partition of each unit, at least 1: the fleet's traffic for its model, spread evenly over it."""
    arriving: Counter[str] = Counter()
    for standing in standings:
        arriving.update(standing.arriving)
    counts = Counter(unit.model for unit in units for _ in unit.partitions)
    total = sum(arriving[model] for model in counts)
    if total <= 0:
        return [SCALE] * len(units)
    floor = max(1, int(FLOOR * SCALE * total / sum(counts.values())))
    return [floor + int(SCALE * arriving[unit.model] / counts[unit.model]) for unit in units]


def sizes_bytes(units: Sequence[Unit], standings: Sequence[Standing]) -> list[int]:
    """The bytes of each unit's model: as some worker knows it, else the mean of those known.

    A partition of a shared topic counts nothing: its models come and go, and are not all there at a time.
    """
    known: dict[str, int] = {}
    for standing in standings:
        for model, size in standing.resident.items():
            known[model] = max(size, known.get(model, 0))
    mean = sum(known.values()) // len(known) if known else 0
    return [known.get(unit.key, mean) if unit.key == unit.model else 0 for unit in units]


def capacities(standings: Sequence[Standing]) -> list[float]:
    """What each worker computes, in tokens/s: the mean of the others where that is not known."""
    known = [standing.tokens_per_s for standing in standings if standing.tokens_per_s > 0]
    mean = sum(known) / len(known) if known else 1.0
    return [standing.tokens_per_s or mean for standing in standings]
