"""What does a worker cost that nobody asks anything?"""

from __future__ import annotations

import time

import psutil

from benchmarks.harness import Scale
from benchmarks.place import Place
from benchmarks.report import Row, Run, row


def cpu_percent(place: Place, scale: Scale) -> list[Row]:
    """CPU percent of one core of a worker with many null models, each with two topics of eight partitions."""
    models = "\n".join(f'[models.m{n}]\ncheckpoint = "null:384"\npinned = true' for n in range(scale.idle_models))
    runs: list[Run] = []
    with place.worker(place.new_prefix(), models) as worker:
        process = psutil.Process(worker.pid)
        process.cpu_percent(scale.idle_settle_s)  # what joining leaves behind
        for _ in range(scale.idle_runs):
            runs.append(Run(_percent(process, scale.idle_s)))
            place.say(f"  idle: {runs[-1].value:.2f} % of a core")
    return [row("idle.cpu_percent", "% of a core", "lower", runs)]


def _percent(process: psutil.Process, seconds: float) -> float:
    """By hand: psutil's own `cpu_percent` rounds to a tenth."""
    start_s, before = time.perf_counter(), process.cpu_times()
    time.sleep(seconds)
    after = process.cpu_times()
    used_s = after.user + after.system - before.user - before.system
    return 100 * used_s / (time.perf_counter() - start_s)
