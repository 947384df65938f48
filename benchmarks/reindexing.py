"""How does `embedmq reindex` do, run as a user runs it? As a command in a process of its own, watched from outside."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil
from embedmq.bulk.status import JobStatus
from embedmq_local.process import Process
from msgspec import Struct

from benchmarks.peak import LOOK_S
from benchmarks.place import Place

END_TIMEOUT_S = 30.0


class Reindexed(Struct, frozen=True):
    """One command that ended well. `job_s` is its job's, from taking it to its last commit; `wall_s` also has what
    comes before: an interpreter, its imports, a client that connects.
    """

    rows: int
    job_s: float
    wall_s: float
    cpu_s: float
    peak_bytes: int

    def __str__(self) -> str:
        rest = f"{self.wall_s:.1f} s in all, {self.cpu_s:.1f} s of CPU, {self.peak_bytes / 2**20:.1f} MiB"
        return f"{self.rows:,} rows in {self.job_s:.2f} s ({self.rows / self.job_s:,.0f}/s; {rest})"


@contextmanager
def reindexing(place: Place, prefix: str, model: str, source: Path, options: Sequence[str] = ()) -> Iterator[Process]:
    """The command while it runs, into Parquet that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        reach = ["--kafka", place.stack.kafka, "--redis", place.stack.redis, "--prefix", prefix, "--json"]
        ends = ["--model", model, "--source", str(source), "--sink", str(Path(folder, "vectors.parquet"))]
        command = [sys.executable, "-m", "embedmq", *reach, "reindex", *ends, *options]
        process = Process("embedmq reindex", command, Path(folder, "log"))
        try:
            yield process
        finally:
            process.stop(15, END_TIMEOUT_S)


def reindex(place: Place, prefix: str, model: str, source: Path, rows: int) -> Reindexed:
    """Run it to its end; raises ProcessError where it failed, or has another number of rows."""
    start_s = time.perf_counter()
    with reindexing(place, prefix, model, source) as process:
        cpu_s, peak_bytes = _watch(process)
        wall_s = time.perf_counter() - start_s
        end = status(process)
        if process.poll() != 0 or end is None or end.rows_done != rows:
            raise process.failure(f"did not embed {rows} rows")
    return Reindexed(rows, end.updated_unix_s - end.started_unix_s, wall_s, cpu_s, peak_bytes)


def status(process: Process) -> JobStatus | None:
    """What it said last of its job; None before it said anything."""
    said = [line for line in process.tail() if line.startswith("{")]
    return msgspec.json.decode(said[-1], type=JobStatus) if said else None


def _watch(process: Process) -> tuple[float, int]:
    """Its CPU time and its most resident bytes, seen until it ended."""
    seen = psutil.Process(process.pid)
    cpu_s, peak_bytes = 0.0, 0
    while process.poll() is None:
        try:
            with seen.oneshot():
                times, now_bytes = seen.cpu_times(), seen.memory_info().rss
        except psutil.NoSuchProcess:  # it ended in between
            continue
        cpu_s, peak_bytes = max(cpu_s, times.user + times.system), max(peak_bytes, now_bytes)
        time.sleep(LOOK_S)
    return cpu_s, peak_bytes
