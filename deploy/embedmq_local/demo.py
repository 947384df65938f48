"""What does EmbedMQ do, shown in a minute? Real Kafka, Redis and a model; 2,000 texts; three searches."""

from __future__ import annotations

import asyncio
import re
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from embedmq import Client
from numpy.typing import NDArray
from tqdm import tqdm

from embedmq_local.docstrings import Docstring, choose
from embedmq_local.progress import TerminalProgress
from embedmq_local.stack import Stack

MODEL = "minilm"
IN_FLIGHT = 64
NEAREST = 3
QUERIES = ("parse command line arguments", "wait until another thread is finished", "compress a file")

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Hit:
    """A docstring near a query; `score` is the cosine of their vectors."""

    name: str
    summary: str
    score: float


@dataclass(frozen=True)
class Report:
    """What the demo measured and found."""

    texts: int
    seconds: float
    texts_per_s: float
    p50_ms: float
    p99_ms: float
    batches: int
    items_per_batch: float
    batch_fill: float
    searches: dict[str, list[Hit]]

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return asdict(self)


def run(say: Callable[[str], None], texts: int, *, quiet: bool = False) -> Report:
    """Start everything, embed, search, measure, and leave nothing running; raises StackError and EmbedMQError."""
    with Stack(progress=TerminalProgress()) as stack:
        say(f"Kafka at {stack.kafka} and Redis at {stack.redis} are up; a worker loads all-MiniLM-L6-v2 …")
        worker = stack.start_worker()
        docstrings = choose(texts)
        worker.wait_ready()
        say(f"Embedding {len(docstrings):,} docstrings of Python's standard library, {IN_FLIGHT} requests in flight:")
        return asyncio.run(_embed_and_search(stack.kafka, stack.redis, worker.http, docstrings, quiet=quiet))


async def _embed_and_search(
    kafka: str, redis: str, metrics: str, docstrings: Sequence[Docstring], *, quiet: bool
) -> Report:
    async with Client(kafka=kafka, redis=redis) as mq:
        start_s = time.perf_counter()
        vectors, latencies_s = await _embed(mq, [docstring.text for docstring in docstrings], quiet=quiet)
        took_s = time.perf_counter() - start_s
        batches, items, fill = _read_batches(metrics)
        searches = {query: await _search(mq, query, docstrings, vectors) for query in QUERIES}
    p50, p99 = np.percentile(latencies_s, [50, 99])
    return Report(
        texts=len(docstrings),
        seconds=round(took_s, 2),
        texts_per_s=round(len(docstrings) / took_s, 1),
        p50_ms=round(float(p50) * 1000, 1),
        p99_ms=round(float(p99) * 1000, 1),
        batches=batches,
        items_per_batch=round(items / max(batches, 1), 1),
        batch_fill=round(fill / max(batches, 1), 3),
        searches=searches,
    )


async def _embed(mq: Client, texts: Sequence[str], *, quiet: bool) -> tuple[Floats, list[float]]:
    """One request a text, so that every batch is formed by the worker; vectors `(n, d)` and each request's seconds."""
    vectors: list[Floats | None] = [None] * len(texts)
    latencies_s: list[float] = []
    left = iter(enumerate(texts))
    with tqdm(total=len(texts), unit=" texts", disable=quiet or not sys.stderr.isatty(), leave=False) as bar:

        async def embed_next() -> None:
            for index, text in left:
                start_s = time.perf_counter()
                vectors[index] = np.asarray((await mq.embed(MODEL, text)).dense[0], np.float32)
                latencies_s.append(time.perf_counter() - start_s)
                bar.update()

        await asyncio.gather(*(embed_next() for _ in range(IN_FLIGHT)))
    return np.stack([vector for vector in vectors if vector is not None]), latencies_s


async def _search(mq: Client, query: str, docstrings: Sequence[Docstring], vectors: Floats) -> list[Hit]:
    wanted = np.asarray((await mq.embed(MODEL, query)).dense[0], np.float32)
    cosines = vectors @ wanted
    best = np.argsort(-cosines)[:NEAREST]
    return [
        Hit(docstrings[i].name, docstrings[i].text.splitlines()[0].strip(), round(float(cosines[i]), 3))
        for i in best.tolist()
    ]


def _read_batches(address: str) -> tuple[int, float, float]:
    """From the worker's metrics: how many batches, the sum of their items, and of their fill."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
        text = answer.read().decode()

    def read(name: str) -> float:
        found = re.search(rf'^embedmq_{name}{{model="{MODEL}"}} (\S+)$', text, re.MULTILINE)
        return float(found.group(1)) if found else 0.0

    return int(read("batch_items_count")), read("batch_items_sum"), read("batch_fill_ratio_sum")


def describe(report: Report) -> str:
    """The report for people."""
    lines = []
    for query, hits in report.searches.items():
        lines += ["", f"» {query}"]
        lines += [f"  {hit.score:.2f}  {hit.name:<42.42} {hit.summary:.60}" for hit in hits]
    lines += [
        "",
        f"{report.texts:,} texts in {report.seconds:.1f} s: {report.texts_per_s:,.0f} texts/s",
        f"latency p50 {report.p50_ms:.0f} ms, p99 {report.p99_ms:.0f} ms with {IN_FLIGHT} requests in flight",
        f"{report.batches} batches, {report.items_per_batch} texts each, {report.batch_fill:.0%} of the token budget",
    ]
    return "\n".join(lines)
