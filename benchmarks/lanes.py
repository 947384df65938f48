"""What does somebody who waits notice of a bulk job? One text a request, at random times, beside it and without it.

A worker as it is by default (batches of 50 ms) serves a real model; requests arrive on the interactive lane as they
would from many callers (Poisson, the same times on both sides, each sent when it is due whatever became of those
before). Beside them runs, or not, `embedmq reindex` with its defaults, which keeps 2,048 rows waiting for the worker.

`lanes.interactive_p99_ms` is their p99 with it against without. `lanes.interactive_p99_ratio` is the difference of the
two, against the time of one batch: how many batches more the slowest of them waited.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import uvloop
from embedmq import Client
from embedmq_local.process import Process
from embedmq_local.worker import Worker

from benchmarks import docstrings
from benchmarks.bulk import write_jsonl
from benchmarks.checkpoints import MINILM
from benchmarks.harness import Scale, interleave
from benchmarks.place import Place
from benchmarks.reindexing import reindexing, status
from benchmarks.report import Row, Run, row
from benchmarks.sample import Sample
from benchmarks.scraping import scrape

MODEL: Final = "minilm"
BATCH_MS: Final = 50.0
SETTINGS: Final = f"[worker]\nmax_batch_ms = {BATCH_MS:g}"
MODELS: Final = f'[models.{MODEL}]\ncheckpoint = "{MINILM}"\npinned = true'
"""No dtype is named: it chooses its own, as usual."""
REQUESTS_PER_S: Final = 16.0
CALM_TIMEOUT_S: Final = 120.0
POLL_S: Final = 0.1
WARM_REQUESTS: Final = 16
TEXTS: Final = 200
IDLE: Final = "the same requests with nothing beside them"
BATCH: Final = f"one batch of {BATCH_MS:g} ms; the value is p99 beside a job, less p99 without"


def interactive(place: Place, scale: Scale) -> list[Row]:
    """Their p99 in both cases."""
    prefix = place.new_prefix()
    with tempfile.TemporaryDirectory() as folder, place.worker(prefix, MODELS, SETTINGS) as worker:
        source = write_jsonl(Path(folder, "rows.jsonl"), docstrings.choose(scale.beside_rows))
        lane = _Lane(place, prefix, worker, scale.lanes_s)
        busy, idle = interleave(scale.lanes_runs, [lambda: lane.beside(source), lane.alone])
    p99_ms = [Run(a, b) for a, b in zip(busy, idle, strict=True)]
    more_ms = [Run(a - b, BATCH_MS) for a, b in zip(busy, idle, strict=True)]
    return [
        row("lanes.interactive_p99_ms", "ms", "lower", p99_ms, IDLE),
        row("lanes.interactive_p99_ratio", "ms", "lower", more_ms, BATCH, goal=3),
    ]


class _Lane:
    """The interactive lane of one worker; each method gives the p99 of a run, in ms."""

    def __init__(self, place: Place, prefix: str, worker: Worker, seconds: float) -> None:
        self._place = place
        self._prefix = prefix
        self._worker = worker
        self._seconds = seconds

    def alone(self) -> float:
        """With nothing beside it: what an earlier job left behind has been dealt with."""
        _poll(lambda: not scrape(self._worker)["embedmq_in_flight_items"], "worker is at rest")
        return self._measure("idle")

    def beside(self, source: Path) -> float:
        """Beside a job that has begun to get vectors, and still gets them afterwards; it is then ended."""
        with reindexing(self._place, self._prefix, MODEL, source) as process:
            _poll(lambda: _rows_done(process) > 0, "job is under way")
            p99_ms = self._measure("busy")
            if process.poll() is not None:
                raise process.failure("ended before all requests were answered: it wants more rows")
        return p99_ms

    def _measure(self, name: str) -> float:
        before = scrape(self._worker)
        sample = uvloop.run(self._ask())
        after = scrape(self._worker)
        rows = _grown(before, after, "embedmq_items_total")
        batches = _grown(before, after, "embedmq_forward_seconds_count")
        batch_ms = 1000 * _grown(before, after, "embedmq_forward_seconds_sum") / batches
        percentiles = ", ".join(f"p{percent} {sample.percentile_ms(percent):.1f} ms" for percent in (50, 90, 99))
        self._place.say(f"  {name}: {percentiles}; {batches:.0f} batches of {batch_ms:.1f} ms, {rows:.0f} texts")
        return sample.percentile_ms(99)

    async def _ask(self) -> Sample:
        """Send each request when it is due."""
        stack = self._place.stack
        # numbered: none is one of the job's own rows, which would be computed once for both
        texts = (f"{n}: {text}" for n, text in enumerate(itertools.cycle(docstrings.short(TEXTS))))
        latencies_s: list[float] = []
        async with Client(stack.kafka, stack.redis, prefix=self._prefix) as client:
            for _ in range(WARM_REQUESTS):
                await client.embed(MODEL, next(texts))

            async def ask(due_s: float, text: str) -> None:
                await asyncio.sleep(due_s - time.perf_counter())
                await client.embed(MODEL, text)
                latencies_s.append(time.perf_counter() - due_s)

            start_s = time.perf_counter()
            dues_s = [start_s + at_s for at_s in _arrivals_s(self._seconds)]
            await asyncio.gather(*(ask(due_s, text) for due_s, text in zip(dues_s, texts, strict=False)))
        return Sample(len(latencies_s) / self._seconds, latencies_s)


def _arrivals_s(seconds: float) -> list[float]:
    chance = random.Random(docstrings.SEED)
    arrivals = itertools.accumulate(chance.expovariate(REQUESTS_PER_S) for _ in itertools.count())
    return list(itertools.takewhile(lambda at_s: at_s < seconds, arrivals))


def _grown(before: Mapping[str, float], after: Mapping[str, float], name: str) -> float:
    return after[name] - before[name]


def _rows_done(process: Process) -> int:
    said = status(process)
    return 0 if said is None else said.rows_done


def _poll(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.perf_counter() + CALM_TIMEOUT_S
    while not condition():
        if time.perf_counter() > deadline_s:
            raise TimeoutError(f"waited {CALM_TIMEOUT_S:g} s until the {what}")
        time.sleep(POLL_S)
