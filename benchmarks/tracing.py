"""What do traces cost? `python -m benchmarks.tracing`: processor time of a request without, with 1 % and all sampled.

The sides take turns on one stack, since other work on the machine changes rates more than it changes processor time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import embedmq
import psutil
from embedmq_local.stack import Stack
from embedmq_local.worker import Worker

IN_FLIGHT = 256
WARM_UP = 2_000
REQUESTS = 8_000
ROUNDS = 7
UNBOUNDED = "[tracing]\nenabled = true\nmax_per_s = 1_000_000\nmax_waiting = 100_000\n"
MODEL = '[models.null]\ncheckpoint = "null:384"\npinned = true\n'


def compare(rounds: int) -> None:
    """Print milliseconds of processor time per 1,000 requests, client and worker, and requests a second: medians."""
    with Stack() as stack, _sink() as url, tempfile.TemporaryDirectory() as folder:
        untraced = _worker(stack, Path(folder), "off", "")
        traced = _worker(stack, Path(folder), "on", f'{UNBOUNDED}endpoint = "{url}"\n')
        sides = {"off": (untraced, "off"), "worker on, no traces": (traced, "off")}
        sides |= {"1 % sampled": (traced, "0.01"), "100 % sampled": (traced, "1")}
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in sides}
        for number in range(rounds + 1):
            for name, (worker, share) in sides.items():
                sample = _round(stack, worker, share, url)
                if number:  # the first is the warm-up
                    found[name].append(sample)
        for name, samples in found.items():
            client, worker_ms, rate = (statistics.median(column) for column in zip(*samples, strict=True))
            print(f"{name:22} client {client:6.0f} ms, worker {worker_ms:6.0f} ms per 1,000, {rate:7,.0f}/s")


def _round(stack: Stack, worker: tuple[Worker, str], share: str, url: str) -> tuple[float, float, float]:
    process, prefix = worker
    program = psutil.Process(process.pid)
    before = program.cpu_times()
    command = [sys.executable, "-m", "benchmarks.tracing", share, url, stack.kafka, stack.redis, prefix]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    after = program.cpu_times()
    spent_s = after.user + after.system - before.user - before.system
    client = json.loads(done.stdout)
    return client["cpu_s"] / REQUESTS * 1e6, spent_s / (REQUESTS + WARM_UP) * 1e6, REQUESTS / client["wall_s"]


async def ask(share: str, url: str, kafka: str, redis: str, prefix: str) -> None:
    """One client's requests, each in a span of its caller where `share` is a number, and what they took."""
    caller: Callable[[], AbstractContextManager[object]]
    caller = contextlib.nullcontext if share == "off" else _caller(float(share), url)
    async with embedmq.Client(kafka, redis, prefix=prefix) as mq:

        async def some(count: int) -> None:
            for _ in range(count // IN_FLIGHT):
                with caller():
                    await mq.embed("null", "one text", id=uuid.uuid4().hex)  # with an id, a record of its own

        await asyncio.gather(*(some(WARM_UP) for _ in range(IN_FLIGHT)))
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        await asyncio.gather(*(some(REQUESTS) for _ in range(IN_FLIGHT)))
        print(json.dumps({"cpu_s": time.process_time() - cpu_s, "wall_s": time.perf_counter() - wall_s}))


def _caller(share: float, url: str) -> Callable[[], AbstractContextManager[object]]:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(share))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(url), max_queue_size=1 << 17))
    trace.set_tracer_provider(provider)
    tracer = trace.get_tracer("benchmark")
    return lambda: tracer.start_as_current_span("caller")


def _worker(stack: Stack, folder: Path, name: str, config: str) -> tuple[Worker, str]:
    prefix = f"bench{uuid.uuid4().hex[:8]}"
    file = folder / f"{name}.toml"
    file.write_text(f'prefix = "{prefix}"\n{config}{MODEL}')
    worker = stack.start_worker(file)
    worker.wait_ready()
    return worker, prefix


@contextlib.contextmanager
def _sink() -> Iterator[str]:
    """A collector that takes everything and looks at nothing, in this process, whose time is not counted."""

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces"
    finally:
        server.shutdown()


if __name__ == "__main__":
    asyncio.run(ask(*sys.argv[1:])) if len(sys.argv) > 2 else compare(int(sys.argv[1]) if sys.argv[1:] else ROUNDS)
