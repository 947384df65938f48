"""How much CPU did each process use for one request?"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

import psutil


class Cpu:
    """The CPU time of some processes, by the name each has in the report."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._samples: dict[str, list[float]] = {name: [] for name in pids}
        self._start_s: dict[str, float] = {}

    def start(self) -> None:
        """Begin a run."""
        self._start_s = self._used_s()

    def stop(self, requests: int) -> None:
        """End a run in which that many requests were answered."""
        for name, used_s in self._used_s().items():
            self._samples[name].append((used_s - self._start_s[name]) / max(1, requests) * 1e6)

    def forget(self) -> None:
        """Begin anew."""
        for samples in self._samples.values():
            samples.clear()

    def per_request_us(self) -> dict[str, float]:
        """Microseconds of CPU for each request, the median over the runs."""
        return {name: round(median(samples), 1) for name, samples in self._samples.items() if samples}

    def _used_s(self) -> dict[str, float]:
        return {name: (used := it.cpu_times()).user + used.system for name, it in self._processes.items()}
