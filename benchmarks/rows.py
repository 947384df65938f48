"""Which benchmarks are there?"""

from __future__ import annotations

from typing import Final

from benchmarks import asking, bulk, engine, idle, infinity, lanes, memory, residency, road, roofline, scale, transport
from benchmarks.harness import Benchmark, Scale
from benchmarks.place import Place

RESIDENCY: Final = (
    "residency.zipf_loads",
    "residency.zipf_loads_vs_loading_beside",
    "residency.zipf_throughput",
    "residency.zipf_p99_age_s",
)
ROAD: Final = ("road.bulk", "road.bulk_vs_sentence_transformers", "road.single")
BENCHMARKS: Final[tuple[Benchmark[Place, Scale], ...]] = (
    Benchmark(engine.MINILM_ROWS, engine.minilm),
    Benchmark(("engine.long",), engine.long),
    Benchmark(("engine.bert_base",), engine.bert_base),
    Benchmark(("engine.modernbert_base",), engine.modernbert_base),
    Benchmark(("engine.rerank",), engine.rerank),
    Benchmark(("engine.roofline",), roofline.roofline),
    Benchmark(("engine.infinity",), infinity.infinity),
    Benchmark(RESIDENCY, residency.zipf),
    Benchmark(ROAD, road.road),
    Benchmark(("transport.throughput_256", "transport.throughput_256_vs_batches"), transport.throughput_256),
    Benchmark(("transport.throughput_64", "transport.throughput_64_vs_batches"), transport.throughput_64),
    Benchmark(("transport.items_32",), transport.items_32),
    Benchmark(("transport.latency_1_p50_ms", "transport.latency_1_p99_ms"), transport.latency_1),
    Benchmark(("bulk.rows",), bulk.rows),
    Benchmark(("bulk.memory",), bulk.memory),
    Benchmark(("map.overhead",), asking.map_overhead),
    Benchmark(("client.concurrent_1000", "client.concurrent_1000_null"), asking.concurrent),
    Benchmark(("lanes.interactive_p99_ms", "lanes.interactive_p99_ratio"), lanes.interactive),
    Benchmark(("scale.workers_2", "scale.workers_4"), scale.workers),
    Benchmark(("scale.limit",), scale.limit),
    Benchmark(("idle.cpu_percent",), idle.cpu_percent),
    Benchmark(("memory.backlog_mb",), memory.backlog),
)
