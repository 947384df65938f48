"""A client and a worker under one trace, through real Kafka and Redis to a collector."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import subprocess
import sys
from pathlib import Path

import embedmq
import pytest
from embedmq_local.stack import Stack
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from tests.tracing.collector import collecting
from tests.tracing.conftest import BATCH_S, LOAD_S, PAGE, Traced, hex_id, sent, spans_of, start
from tests.worker.world import JSON, World, as_json, eventually, new_id

SECRET = "the-text-that-nobody-may-see"


async def test_the_trace_of_one_slow_request_says_where_its_time_went(
    traced: Traced, mq: embedmq.Client, recorded: InMemorySpanExporter
) -> None:
    """Send, queue, wait for the model, its load, tokens, batch and delivery are spans of one trace, each within the one
    above it, whose lengths add up to the request's; the text is in none of them.
    """
    with trace.get_tracer("test").start_as_current_span("caller") as caller:
        answer = await mq.embed("slow", [SECRET, f"{SECRET} too"])
    of = await spans_of(traced.collector, hex_id(caller), "process", "queue", "wait", "load", "tokenize", "deliver")
    of |= await spans_of(traced.collector, hex_id(caller), "encode", "batch")
    (send,) = sent(recorded)
    topic = traced.worker.topic("slow")
    assert send.name == f"send {topic}"
    assert send.context is not None
    assert of["process"].parent_id == f"{send.context.span_id:016x}"
    assert of["process"].name == f"process {topic}"
    parents = {"queue": "process", "encode": "process", "deliver": "process"}
    parents |= {"wait": "queue", "tokenize": "queue", "load": "wait", "batch": "encode"}
    for name, parent in parents.items():
        assert of[name].parent_id == of[parent].span_id, name
        assert of[name].within(of[parent]), name
    assert send.start_time is not None
    assert send.end_time is not None
    assert of["process"].start_ns > send.start_time - 1_000_000  # Kafka's timestamps are whole milliseconds
    assert of["deliver"].start_ns <= send.end_time  # it was not answered before
    # the steps follow each other: what lies between two is handing over, and is no time that a step has waited
    assert of["queue"].end_ns == of["encode"].start_ns <= of["encode"].end_ns <= of["deliver"].start_ns
    assert of["queue"].start_ns == of["process"].start_ns
    assert of["deliver"].end_ns == of["process"].end_ns
    steps = of["queue"].seconds + of["encode"].seconds + of["deliver"].seconds
    handing_over = (of["deliver"].start_ns - of["encode"].end_ns) / 1e9
    assert of["process"].seconds == pytest.approx(steps + handing_over, abs=1e-6)
    assert of["load"].seconds >= LOAD_S
    assert of["batch"].seconds >= BATCH_S
    device_s = of["batch"].attributes["embedmq.device.s"]
    assert isinstance(device_s, float)
    assert BATCH_S <= device_s <= of["batch"].seconds
    # it says what the answer says
    cut_s = of["tokenize"].seconds
    assert cut_s == pytest.approx(answer.timing.tokenize_ms / 1000, abs=1e-5)
    read_to_batch_s = of["queue"].seconds - float(str(of["queue"].attributes["embedmq.kafka_s"]))
    assert read_to_batch_s == pytest.approx((answer.timing.queue_ms + answer.timing.tokenize_ms) / 1000, abs=1e-4)
    assert send.attributes is not None
    assert send.attributes["embedmq.forward_ms"] == answer.timing.forward_ms
    assert of["process"].attributes["messaging.message.id"] == answer.id
    assert of["process"].attributes["embedmq.items"] == 2
    assert of["deliver"].attributes["embedmq.deliver.to"] == ["stream"]
    assert {span.service for span in of.values()} == {"embedmq-worker"}
    assert not any(SECRET.encode() in body for body in traced.collector.bodies)


async def test_calls_that_share_a_record_link_to_the_one_whose_trace_it_is_in(
    traced: Traced, mq: embedmq.Client, recorded: InMemorySpanExporter
) -> None:
    """Each call has a span in its own caller's trace; the record is in that of one, and the others lead there."""
    await mq.embed("quick", "known")  # where it is served need not be asked any more

    async def call(text: str) -> str:
        with trace.get_tracer("test").start_as_current_span("caller") as caller:
            await mq.embed("quick", text)
            return hex_id(caller)

    recorded.clear()
    traces = await asyncio.gather(*(call(f"text {n}") for n in range(5)))
    sends = {hex_id(span): span for span in sent(recorded)}
    assert set(sends) == set(traces)
    lead = sends[traces[0]]
    for other in traces[1:]:
        assert [link.context for link in sends[other].links] == [lead.context]
    assert [link.context for link in lead.links] == [sends[each].context for each in traces[1:]]
    of = await spans_of(traced.collector, traces[0], "process", "encode", "batch")
    assert of["process"].attributes["embedmq.items"] == 5
    assert not any(traced.collector.trace(other) for other in traces[1:])


async def test_a_batch_links_to_each_of_its_requests(
    traced: Traced, mq: embedmq.Client, recorded: InMemorySpanExporter
) -> None:
    """What a request was computed together with is known from either side."""
    await mq.embed("slow", "it is in memory")
    recorded.clear()

    async def call(n: int) -> str:
        with trace.get_tracer("test").start_as_current_span("caller") as caller:
            await mq.embed("slow", f"text {n}", id=new_id())  # one with an id has a record of its own
            return hex_id(caller)

    traces = await asyncio.gather(*(call(n) for n in range(6)))
    encodes = [(await spans_of(traced.collector, each, "encode", "process"))["encode"] for each in traces]
    batches = {span.place: span for span in traced.collector.named("batch slow")}
    for encode in encodes:
        for place in encode.links:
            assert encode.place in batches[place].links
    together = {place: batches[place] for encode in encodes for place in encode.links}
    assert max(len(batch.links) for batch in together.values()) > 1  # while one computes, the others gather
    for batch in together.values():
        assert batch.attributes["embedmq.batch.requests"] == len(batch.links)
        assert batch.parent_id in {span_id for _, span_id in batch.links}


async def test_who_is_not_sampled_leaves_no_span_and_keeps_his_context(
    traced: Traced, mq: embedmq.Client, world: World, recorded: InMemorySpanExporter
) -> None:
    """The flag of a caller's trace is obeyed, and what it said travels with the record and comes back with the reply;
    so it is where nothing but OpenTelemetry's interface is there to pass on what came from elsewhere.
    """
    replies = await world.create(f"{new_id()}-replies")
    with trace.get_tracer("test", tracer_provider=TracerProvider(sampler=ALWAYS_OFF)).start_as_current_span("x") as off:
        await mq.publish("quick", "nobody looks", reply_topic=replies, id="unseen")
    far = trace.SpanContext(0xABC, 0xDEF, True, trace.TraceFlags(1), trace.TraceState([("vendor", "v1")]))
    with trace.use_span(trace.NonRecordingSpan(far)):
        await mq.publish("quick", "from elsewhere", reply_topic=replies, id="seen")
    of = await spans_of(traced.collector, f"{0xABC:032x}", "process", "deliver")
    assert of["deliver"].attributes["embedmq.deliver.to"] == [f"topic {replies}"]
    seen = dict((await world.record(replies, lambda record: record.key == b"seen")).headers)
    assert seen["traceparent"].decode().split("-")[1] == f"{0xABC:032x}"
    assert seen["tracestate"] == b"vendor=v1"
    unseen = dict((await world.record(replies, lambda record: record.key == b"unseen")).headers)
    version, trace_id, span_id, flags = unseen["traceparent"].decode().split("-")
    assert (version, trace_id, span_id) == ("00", hex_id(off), f"{off.get_span_context().span_id:016x}")
    assert not int(flags, 16) & trace.TraceFlags.SAMPLED
    assert not traced.collector.trace(hex_id(off))
    assert [span.attributes["messaging.message.id"] for span in sent(recorded) if span.attributes] == ["seen"]


async def test_a_dead_letter_keeps_the_context_it_was_created_with(traced: Traced, world: World) -> None:
    """What failed is in its caller's trace, with its code, and can be found from the dead letter."""
    id, trace_id = new_id(), new_id()
    parent = f"00-{trace_id}-00000000000000aa-01".encode()
    broken = as_json({"id": id, "items": 7})
    await world.produce(traced.worker.topic("quick"), broken, [*JSON, ("traceparent", parent)])
    of = await spans_of(traced.collector, trace_id, "process", "queue", "deliver")
    assert "encode" not in of
    assert of["process"].failed
    assert of["process"].parent_id == "00000000000000aa"
    assert of["process"].attributes["error.type"] == "malformed"
    letter = await world.dead_letter(traced.worker, id)
    assert dict(letter.headers)["traceparent"] == parent


async def test_a_histogram_names_a_trace_for_its_slow_bucket(
    traced: Traced, mq: embedmq.Client, recorded: InMemorySpanExporter
) -> None:
    """Who asks for OpenMetrics finds the ids of traces beside the buckets they fell into."""
    with trace.get_tracer("test").start_as_current_span("caller"):
        await mq.embed("quick", "an example")
    host, _, port = traced.worker.process.http.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    connection.request("GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    answer = connection.getresponse()
    assert (answer.getheader("Content-Type") or "").startswith("application/openmetrics-text")
    text = answer.read().decode()
    connection.close()
    traces = {span.trace_id for span in traced.collector.spans} | {hex_id(span) for span in sent(recorded)}
    for name in ("queue_seconds", "forward_seconds", "deliver_seconds", "request_seconds"):
        found = re.findall(rf'^embedmq_{name}_bucket.*# {{trace_id="(\w+)"}}', text, re.MULTILINE)
        assert found, name
        assert set(found) <= traces


async def test_a_collector_that_is_away_slows_nothing_and_gets_the_last_spans_when_it_is_back(
    stack: Stack, tmp_path: Path, recorded: InMemorySpanExporter
) -> None:
    """Requests are answered, the log says so once, and a worker that stops sends what it still has."""
    with collecting() as found:
        url = found.url
    env = {"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "1", "OTEL_SERVICE_NAME": "vectors"}
    worker = start(stack, tmp_path, f'[tracing]\nenabled = true\nendpoint = "{url}"\n', env)
    async with embedmq.Client(stack.kafka, stack.redis, prefix=worker.prefix) as mq:
        tracer = trace.get_tracer("test")

        async def dropped() -> bool | None:
            with tracer.start_as_current_span("caller"):
                await mq.embed("quick", "nobody takes its spans")
            return worker.metric("spans_dropped_total", reason="refused") > 0 or None

        await eventually(dropped, "spans that nobody takes")
        with collecting(int(re.findall(r":(\d+)/", url)[0])) as back:
            with tracer.start_as_current_span("caller") as last:
                await mq.embed("quick", "the last")
            worker.process.stop()
            assert {"process", "queue", "encode", "deliver"} <= back.trace(hex_id(last)).keys()
            assert back.trace(hex_id(last))["process"].service == "vectors"
    assert len(worker.events("spans_not_taken")) == 1
    assert len(worker.events("stopped")) == 1


async def test_the_program_of_the_page_gives_the_trace_of_the_page(stack: Stack, traced: Traced) -> None:
    """Run as it stands, it leaves the tree that is drawn there, and the table explains each of its spans."""
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (drawn,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    env = {"EMBEDMQ_KAFKA": stack.kafka, "EMBEDMQ_REDIS": stack.redis, "EMBEDMQ_PREFIX": traced.worker.prefix}
    env["OTEL_EXPORTER_OTLP_ENDPOINT"] = traced.collector.url.removesuffix("/v1/traces")
    command = [sys.executable, "-W", "error", "-c", program]
    await asyncio.to_thread(subprocess.run, command, env=os.environ | env, check=True)
    (root,) = traced.collector.named("search")
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in drawn.replace("<prefix>", traced.worker.prefix).splitlines():
        found = re.search(r"\w.*", line)
        assert found is not None
        path[found.start() // 4 :] = [found[0]]
        parents[found[0]] = path[-2] if len(path) > 1 else ""
    await spans_of(traced.collector, root.trace_id, *(name.split()[0] for name in parents))
    spans = [span for span in traced.collector.spans if span.trace_id == root.trace_id]
    names = {span.span_id: span.name for span in spans}
    assert {span.name: names.get(span.parent_id, "") for span in spans} == parents
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert rows == [name.split()[0] for name in parents if name != "search"]
