"""What does one run of a load measure?"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import quantiles


@dataclass(frozen=True)
class Sample:
    """Items answered a second, and how long each request took."""

    items_per_s: float
    latencies_s: list[float]

    def percentile_ms(self, percent: int) -> float:
        """The latency that this many percent of the requests stayed below."""
        return quantiles(self.latencies_s, n=100)[percent - 1] * 1000
