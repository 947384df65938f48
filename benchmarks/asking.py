"""What does each way to ask cost? The same texts, asked for in two ways through the same client.

`map.overhead` sends texts through `Client.map` and takes one vector after the other out of it, against `embed` calls
written by hand: as many texts a call as `map` puts into a record, as many calls at a time as fill the same window, and
every vector taken out, too.

`client.concurrent_1000` makes 1,000 calls of `embed` at once, with one text each, against one call with 1,000 texts, of
a real model. `client.concurrent_1000_null` does so with a model that computes nothing, and has no goal: one call takes
some 16 us a text there from end to end, a task of asyncio's that waits for a future already 4.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

import uvloop
from embedmq import Client
from embedmq.packing import record_items
from embedmq_local.worker import Worker

from benchmarks import docstrings
from benchmarks.checkpoints import MINILM
from benchmarks.cpu import Cpu
from benchmarks.fill import BULK_BATCH_MS
from benchmarks.harness import Scale
from benchmarks.place import Place
from benchmarks.report import Row
from benchmarks.side import Part, Side, compare, little, measure
from benchmarks.work import Calls, singly, texts

Ask = Callable[[Client, Sequence[str]], Awaitable[None]]

NULL, REAL = "null", "minilm"
SETTINGS: Final = f"[worker]\nmax_batch_ms = {BULK_BATCH_MS}"
NULL_MODEL: Final = f'[models.{NULL}]\ncheckpoint = "null:384"\npinned = true'
REAL_MODEL: Final = f'[models.{REAL}]\ncheckpoint = "{MINILM}"\npinned = true'
WINDOW: Final = 1_024
"""Items in flight: what `map` and a client have by default."""
RECORD: Final = record_items(WINDOW)
CALLS: Final = f"embed calls of {RECORD} texts, {WINDOW // RECORD} at a time"


def map_overhead(place: Place, scale: Scale) -> list[Row]:
    """Texts a second through `map`, and by calls."""
    calls = singly(_made_up(scale.map_texts))
    with _asked(place, NULL_MODEL) as side:
        mapped, called = side("map", calls, _by_map), side("calls", calls, _by_calls)
        measure([mapped, called], scale.asking_runs, _whole)
        return [compare("map.overhead", mapped, called, CALLS, goal=0.9)]


def concurrent(place: Place, scale: Scale) -> list[Row]:
    """Texts a second by as many calls, and by one."""
    count = scale.concurrent_calls
    real = singly(docstrings.short(count))
    null = [*singly(_made_up(count))] * scale.concurrent_rounds
    with _asked(place, f"{NULL_MODEL}\n{REAL_MODEL}") as side:

        def against_one(name: str, model: str, calls: Calls, runs: int, warm: Part, goal: float | None = None) -> Row:
            many = side(f"{model}, {count:,} calls", calls, partial(_at_once, model))
            one = side(f"{model}, one call", calls, partial(_one, model))
            measure([many, one], runs, warm)
            return compare(name, many, one, f"one embed call with {count:,} texts", goal)

        return [
            against_one("client.concurrent_1000", REAL, real, scale.runs, little, goal=0.8),
            against_one("client.concurrent_1000_null", NULL, null, scale.asking_runs, _whole),
        ]


@contextmanager
def _asked(place: Place, models: str) -> Iterator[Callable[[str, Calls, Ask], Side]]:
    """What makes the sides of a comparison, with a worker for both."""
    prefix = place.new_prefix()
    with place.worker(prefix, models, SETTINGS) as worker:

        def side(name: str, calls: Calls, ask: Ask) -> Side:
            return Side(name, calls, partial(_seconds, place, prefix, ask), _cpu(place, worker), place.say)

        yield side


def _cpu(place: Place, worker: Worker) -> Cpu:
    kafka, redis = place.stack.brokers[0].pid, place.stack.redis_server.pid
    return Cpu({"client": os.getpid(), "worker": worker.pid, "kafka": kafka, "redis": redis})


def _seconds(place: Place, prefix: str, ask: Ask, calls: Calls) -> float:
    """From the first call to the last vector, with a client that has found the topics."""
    them = [texts(call) for call in calls]

    async def ask_all() -> float:
        async with Client(place.stack.kafka, place.stack.redis, prefix=prefix, max_in_flight_items=WINDOW) as client:
            await ask(client, them[0][:1])
            start_s = time.perf_counter()
            for each in them:
                await ask(client, each)
            return time.perf_counter() - start_s

    return uvloop.run(ask_all())


async def _by_map(client: Client, them: Sequence[str]) -> None:
    got = 0
    async for _ in client.map(NULL, them):
        got += 1
    _check(got, them)


async def _by_calls(client: Client, them: Sequence[str]) -> None:
    starts = iter(range(0, len(them), RECORD))
    got = 0

    async def ask() -> None:
        nonlocal got
        for start in starts:
            for _ in await client.embed(NULL, them[start : start + RECORD], lane="bulk", timeout_s=None):
                got += 1

    await asyncio.gather(*(ask() for _ in range(WINDOW // RECORD)))
    _check(got, them)


async def _at_once(model: str, client: Client, them: Sequence[str]) -> None:
    answers = await asyncio.gather(*(client.embed(model, text) for text in them))
    _check(len(answers), them)


async def _one(model: str, client: Client, them: Sequence[str]) -> None:
    _check(len(await client.embed(model, them)), them)


def _check(got: int, them: Sequence[str]) -> None:
    if got != len(them):
        raise ValueError(f"{got} vectors for {len(them)} texts")


def _made_up(count: int) -> list[str]:
    return [f"a text that is like no other: {n}" for n in range(count)]


def _whole(calls: Calls) -> Calls:
    return calls
