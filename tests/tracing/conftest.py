"""A worker whose spans go to a collector, and a caller that records its own."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import embedmq
import pytest
import pytest_asyncio
from embedmq_local.stack import Stack
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased

from tests.tracing.collector import Collector, Seen, collecting
from tests.worker.world import Running, World, eventually, new_id

PAGE = Path(__file__, "../../../docs/tracing.md").resolve().read_text(encoding="utf-8")
LOAD_S, BATCH_S = 0.5, 0.2
MODELS = """
[models.slow]
checkpoint = "null:8?load_ms=500&batch_ms=200"

[models.notes]
checkpoint = "null:8"

[models.quick]
checkpoint = "null:8"
pinned = true
"""


@dataclass
class Traced:
    """A worker whose spans go to a collector."""

    worker: Running
    collector: Collector


@pytest.fixture(scope="module")
def traced(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """With the section that the page says, and the address from the environment."""
    (section,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    with collecting() as collector:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url.removesuffix("/v1/traces")}
        worker = start(stack, tmp_path_factory.mktemp("traced"), section, env)
        yield Traced(worker, collector)
        worker.process.stop()


@pytest.fixture(scope="module")
def recorded() -> InMemorySpanExporter:
    """What this process, the caller, records by the SDK that its program has set up."""
    spans = InMemorySpanExporter()
    provider = TracerProvider(sampler=ParentBased(ALWAYS_ON))
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)
    return spans


@pytest_asyncio.fixture
async def mq(stack: Stack, traced: Traced, recorded: InMemorySpanExporter) -> AsyncIterator[embedmq.Client]:
    recorded.clear()
    async with embedmq.Client(stack.kafka, stack.redis, prefix=traced.worker.prefix) as client:
        yield client


@pytest_asyncio.fixture
async def world(stack: Stack) -> AsyncIterator[World]:
    async with World(stack.kafka, stack.redis) as found:
        yield found


def start(stack: Stack, folder: Path, section: str, env: dict[str, str]) -> Running:
    prefix = f"t{new_id()[:10]}"
    file = folder / "worker.toml"
    file.write_text(f'prefix = "{prefix}"\n{section}{MODELS}')
    process = stack.start_worker(file, env)
    process.wait_ready()
    return Running(process, prefix)


async def spans_of(collector: Collector, trace_id: str, *names: str) -> dict[str, Seen]:
    """The spans of a trace by their first word, once those are there."""

    async def probe() -> dict[str, Seen] | None:
        found = collector.trace(trace_id)
        return found if set(names) <= found.keys() else None

    return await eventually(probe, f"{names} of trace {trace_id}")


def sent(recorded: InMemorySpanExporter) -> list[ReadableSpan]:
    return [span for span in recorded.get_finished_spans() if span.name.startswith("send ")]


def hex_id(span: trace.Span | ReadableSpan) -> str:
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}"
