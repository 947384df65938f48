"""Which benchmarks are there?"""

from __future__ import annotations

from typing import Final

from benchmarks import idle, memory, road, transport
from benchmarks.harness import Benchmark

BENCHMARKS: Final = (
    Benchmark(("transport.throughput_256", "transport.throughput_256_vs_batches"), transport.throughput_256),
    Benchmark(("transport.throughput_64", "transport.throughput_64_vs_batches"), transport.throughput_64),
    Benchmark(("transport.items_32",), transport.items_32),
    Benchmark(("transport.latency_1_p50_ms", "transport.latency_1_p99_ms"), transport.latency_1),
    Benchmark(("road.bulk", "road.bulk_vs_sentence_transformers"), road.bulk),
    Benchmark(("idle.cpu_percent",), idle.cpu_percent),
    Benchmark(("memory.backlog_mb",), memory.backlog),
)
