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
ALIKE: Final = 1.5
"""Speeds that differ by less are one: workers say theirs to half a power of two, so like ones may be a step apart."""


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
    """What each worker computes, in tokens/s: the mean of the others where that is not known, and as much as the
    fastest where it is hardly less.
    """
    told = [standing.tokens_per_s for standing in standings]
    fastest = max(told, default=0.0)
    found = [fastest if speed * ALIKE > fastest else speed for speed in told]
    known = [speed for speed in found if speed > 0]
    mean = sum(known) / len(known) if known else 1.0
    return [speed or mean for speed in found]
