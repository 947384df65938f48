"""How much of the encoder's speed reaches the caller? Real texts and a real model, through the whole road.

Ours: all requests at once on the bulk lane, of 32 texts each (`bulk`) or of one (`single`); from the first call until
the last vector is back in the client, so it holds Kafka, tokenizing, batches, Redis and our client, on the same cores
as the model.

`road.bulk` and `road.single` compare with the worker's own engine, called in a process of its own on the same requests
in the same order, in batches of as many tokens as the worker's may hold (by the worker's own measurement of the device,
from its log), with no queue: what is lost is the road's. `road.bulk_vs_sentence_transformers` compares with
sentence-transformers' `model.encode(texts, batch_size=32)`, which sorts all texts by length first: what anybody would
have without us.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import uvloop
from embedmq import Client
from embedmq_local.worker import Worker
from embedmq_worker.choose import Budget
from embedmq_worker.config import Model
from embedmq_worker.engine.checkpoint import locate

from benchmarks import docstrings, plain
from benchmarks.checkpoints import MINILM
from benchmarks.child import Child, child
from benchmarks.cpu import Cpu
from benchmarks.direct import Direct
from benchmarks.fill import BULK_BATCH_MS, usual
from benchmarks.harness import Scale
from benchmarks.place import Place
from benchmarks.plain import Setting
from benchmarks.report import Row
from benchmarks.side import Side, compare, measure
from benchmarks.work import Calls, Work, count, grouped, singly, texts

MODEL = "minilm"
SETTINGS = f"[worker]\nmax_batch_ms = {BULK_BATCH_MS}"
DTYPE: Final = "float32"
"""Of all sides: what is compared is the road, so none of them is left to choose."""
MODELS = f'[models.{MODEL}]\ncheckpoint = "{MINILM}"\npinned = true\ndtype = "{DTYPE}"'
ENGINE = "the same engine called directly, batches of as many tokens, in the order given"
SENTENCE_TRANSFORMERS = "sentence-transformers' encode(texts, batch_size=32), which sorts by length"


def road(place: Place, scale: Scale) -> list[Row]:
    """Texts a second: ours, the engine called directly, and sentence-transformers."""
    them = docstrings.choose(scale.texts)
    requests = {"bulk": grouped(them, scale.record_texts), "single": singly(them)}
    # one after the other: ours measure the device when they load, which must be idle
    with child(partial(plain.start, "embeds", locate(MINILM).source)) as encoder, loaded(place) as both:
        prefix, worker, engine = both
        limit = measured_budget(worker)
        place.say(f"  batches of {limit.tokens} tokens")
        whole = partial(_through, place, prefix)
        pids = {"client": os.getpid(), "worker": worker.pid}
        pids |= {"kafka": place.stack.brokers[0].pid, "redis": place.stack.redis_server.pid}

        def side(name: str, calls: Calls, seconds: Callable[[Calls], float], pids: dict[str, int]) -> Side:
            return Side(name, calls, seconds, Cpu(pids), place.say)

        alone = {"encoder": engine.pid}
        bulk, single = (side(name, calls, whole, pids) for name, calls in requests.items())
        direct_bulk, direct_single = (
            side(f"{name}, engine alone", calls, lambda it: engine(Work(it, limit)), alone)
            for name, calls in requests.items()
        )
        plainly = side(
            "sentence-transformers", singly(them), lambda it: encoder(Work(it, Setting())), {"encoder": encoder.pid}
        )
        measure([bulk, direct_bulk, plainly, single, direct_single], scale.runs)
    return [
        compare("road.bulk", bulk, direct_bulk, ENGINE, goal=0.9),
        compare("road.bulk_vs_sentence_transformers", bulk, plainly, SENTENCE_TRANSFORMERS),
        compare("road.single", single, direct_single, ENGINE, goal=0.85),
    ]


@contextmanager
def loaded(place: Place) -> Iterator[tuple[str, Worker, Child[Work[Budget | None], float]]]:
    """A worker with its prefix, and our engine in a process of its own."""
    prefix = place.new_prefix()
    with (
        child(partial(Direct, Model(checkpoint=MINILM, dtype=DTYPE))) as engine,
        place.worker(prefix, MODELS, SETTINGS) as worker,
    ):
        yield prefix, worker, engine


def _through(place: Place, prefix: str, calls: Calls) -> float:
    """Seconds from the first call to the last answer."""
    requests = [texts([request]) for call in calls for request in call]

    async def embed_all() -> float:
        stack = place.stack
        async with Client(stack.kafka, stack.redis, prefix=prefix, max_in_flight_items=count(calls)) as client:
            await client.embed(MODEL, requests[0][0], lane="bulk")  # finds the topic
            start_s = time.perf_counter()
            await asyncio.gather(*(client.embed(MODEL, each, lane="bulk", timeout_s=None) for each in requests))
            return time.perf_counter() - start_s

    return uvloop.run(embed_all())


def measured_budget(worker: Worker) -> Budget:
    """What the worker puts into one batch: it logs how fast it found the device."""
    lines = worker.log.read_text().splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    # the log may begin with what an earlier worker wrote
    rates = [event["tokens_per_s"] for event in events if event["event"] == "model_loaded" and event["model"] == MODEL]
    return usual(float(rates[-1]))
