"""How much memory does a process hold at most?"""

from __future__ import annotations

import time

import psutil

MIB = 2**20
LOOK_S = 0.02


def peak_over(process: psutil.Process, seconds: float) -> int:
    """The most resident bytes that were seen in that time."""
    peak_bytes = 0
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        peak_bytes = max(peak_bytes, process.memory_info().rss)
        time.sleep(LOOK_S)
    return peak_bytes
