"""On how many workers does a model live? As many as memory allows; where it is short, hot models first. Pure.

A model on every worker takes bursts with the whole fleet, so where all models fit everywhere, all are spread as widely
as their partitions go. Where they do not, one factor, the largest that the fleet's memory bears, turns each model's
share of the traffic into a number of homes. No model gets fewer than its traffic needs.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

MEMORY_FILL: Final = 0.8
"""Part of the fleet's memory that is given out: what is left takes up that homes are never spread perfectly."""
WIDEST: Final = 2.0**20
"""A factor with which every model has all the homes that it can have."""
STEPS: Final = 24


def count_homes(
    loads: NDArray[np.float64],
    partitions: NDArray[np.int64],
    sizes: NDArray[np.float64],
    fair_load: float,
    workers: int,
    memory: float,
) -> list[int]:
    """The number of homes of each model.

    `loads`, `partitions` and `sizes` (in memory; 0 where unknown) are of each model; `fair_load` is what one of the
    `workers` should carry, `memory` what all of them have (0 where unknown: then it is never short).
    """
    most = np.minimum(partitions, max(1, workers))

    def homes(factor: float) -> NDArray[np.int64]:
        wished = np.maximum(1.0, np.ceil(factor * loads / max(fair_load, 1e-9)))
        # powers of two: traffic that changes a little changes the homes of few models
        return np.minimum(most, np.exp2(np.ceil(np.log2(np.minimum(wished, WIDEST)))).astype(np.int64))

    def fits(factor: float) -> bool:
        return not memory or float(sizes @ homes(factor)) <= MEMORY_FILL * memory

    low, high = 0.0, float(np.log2(WIDEST))
    for _ in range(0 if fits(WIDEST) else STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(2.0**middle) else (low, middle)
    found: list[int] = (most if fits(WIDEST) else homes(2.0**low)).tolist()
    return found
