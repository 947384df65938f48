"""What a worker that did the work exposes and logs is what is declared; and a scrape is answered whatever it is at."""

from __future__ import annotations

import http.client
import json
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import pytest
from embedmq_local.stack import Stack
from embedmq_schemas.names import READERS
from embedmq_worker.engine.devices import used_and_total_bytes
from embedmq_worker.health import MAX_CONNECTIONS, Endpoint, Health, Scrape
from embedmq_worker.metrics import METRICS, PROCESS, Metrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families

from docs.pages import logs
from tests.worker.world import JSON, Running, World, kill, new_id, start, until

MODELS = """
[models.null]
checkpoint = "null:8?batch_ms=1"
pinned = true

[models.wide]
checkpoint = "null:64"
"""
SETTINGS = "[worker]\nretry_delays_s = [1]\n[cache]\nenabled = true\n"
SECRET_TEXT = "nobody-else-may-read-this"
FAULTS = {
    "retries_total", "model_paused", "records_repeated_total", "model_evictions_total",
    "model_load_failures_total", "out_of_memory_total", "items_coalesced_total",
    "unserved_records", "spans_dropped_total", "quota_refused_total", "device_memory_bytes",
}  # fmt: skip
"""What has labels, and no sample before something goes wrong, or without a GPU."""


@pytest.fixture(scope="module")
def worker(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = start(stack, tmp_path_factory.mktemp("monitored"), f"t{new_id()[:10]}", MODELS, SETTINGS)
    running.process.wait_ready(60)
    yield running
    kill(running.process)


@pytest.fixture
async def world(stack: Stack) -> AsyncIterator[World]:
    async with World(stack.kafka, stack.redis) as world:
        yield world


async def work(world: World, worker: Running) -> None:
    """On both lanes, with a model that is loaded for it, from the cache, and what fails."""
    for model, lane in (("null", "interactive"), ("null", "bulk"), ("wide", "bulk"), ("null", "interactive")):
        result = await world.ask(worker, model, {"type": "embed", "model": model, "items": [SECRET_TEXT]}, lane=lane)
        assert result["type"] == "embedded"
    sparse = {"type": "embed", "model": "null", "items": [SECRET_TEXT], "outputs": ["sparse"]}
    assert (await world.ask(worker, "null", sparse))["code"] == "unsupported"
    await world.produce(worker.topic("null"), f'{{"items": {SECRET_TEXT}'.encode(), JSON)
    await until(lambda: worker.metric("dead_letters_total") == 1, "the dead letter")


async def test_a_worker_that_did_the_work_exposes_every_metric_that_is_declared_and_no_other(
    world: World, worker: Running
) -> None:
    """In Prometheus's text and in OpenMetrics; what the requests did is in the numbers, what they said nowhere."""
    await work(world, worker)
    declared = {metric.name.removesuffix("_total"): metric for metric in (*METRICS, *PROCESS)}
    await until(lambda: "embedmq_lag_age_seconds{" in worker.get("/metrics")[1], "what is measured every few seconds")
    await until(lambda: worker.metric("retention_left_seconds", reader="bulk") > 0, "a look at what waits")
    text = worker.get("/metrics")[1]
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families.keys() == declared.keys()
    empty = {name for name, family in families.items() if not family.samples}
    assert empty <= {f"embedmq_{name.removesuffix('_total')}" for name in FAULTS}
    for family in families.values():
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == set(declared[family.name].labels)
    assert worker.metric("request_seconds_count", model="null") == 5
    assert worker.metric("retention_left_seconds", reader="bulk") == pytest.approx(7 * 24 * 3600, abs=60)
    assert worker.metric("ready") == worker.metric("worker_info", prefix=worker.prefix) == 1
    assert worker.metric("world_away_seconds") == 0
    assert 0 <= worker.metric("room_used_ratio", lane="bulk") <= 1
    assert SECRET_TEXT not in text


async def test_every_line_of_the_log_is_as_its_schema_says_and_has_no_text_of_a_request(
    world: World, worker: Running
) -> None:
    """Events of ours have exactly the fields that are documented."""
    await work_once(world, worker)
    schema = logs.schema()
    lines = worker.lines()
    validator = jsonschema.Draft202012Validator(schema)
    for line in lines:
        validator.validate(json.loads(line))
    assert {"started", "ready", "assigned", "model_loaded", "batch", "waiting_for_model", "dead_letter"} <= {
        json.loads(line)["event"] for line in lines
    }
    assert not [line for line in lines if SECRET_TEXT in line]
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**json.loads(lines[0]), "event": "ready", "surprise": 1})


async def work_once(world: World, worker: Running) -> None:
    """Unless it was done by the test before."""
    if not worker.events("dead_letter"):
        await work(world, worker)


async def test_a_scrape_before_kafka_answers_and_by_many_at_once_is_answered(
    stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """By a worker that waits for a Kafka which is not there: it says that it is not ready, and what it is."""
    folder, prefix = tmp_path_factory.mktemp("waiting"), f"t{new_id()[:10]}"
    nowhere = {"EMBEDMQ_KAFKA": "127.0.0.1:9"}
    waiting = start(stack, folder, prefix, '[models.null]\ncheckpoint = "null:8"\n', env=nowhere)
    try:
        await until(lambda: answers(waiting), "metrics of a worker that starts", 60)
        with ThreadPoolExecutor(30) as scrapers:
            found = list(scrapers.map(lambda _: waiting.get("/metrics"), range(60)))
        assert {status for status, _ in found} == {200}
        assert waiting.metric("ready") == 0
        assert waiting.metric("worker_info", prefix=prefix) == 1
        for reader in READERS:  # or Prometheus would see no increase when the first are lost
            assert f'embedmq_records_lost_total{{reader="{reader}"}} 0.0' in found[0][1]
        assert waiting.get("/health")[0] == 200
    finally:
        kill(waiting.process)


def answers(running: Running) -> bool:
    try:
        return running.get("/metrics")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def test_who_asks_while_a_scrape_is_made_shares_the_next_one() -> None:
    """However many ask at once, it is made a few times; whoever asks later gets numbers of then."""
    scrape, made, go, refreshing = Scrape(Metrics().registry), list[int](), threading.Event(), threading.Event()

    def refresh() -> None:
        made.append(1)
        refreshing.set()
        assert go.wait(30)

    scrape.refresh = refresh
    with ThreadPoolExecutor(20) as scrapers:
        first = scrapers.submit(scrape.read, "")
        assert refreshing.wait(30)
        asking = threading.Barrier(20, timeout=30)
        others = [scrapers.submit(lambda: (asking.wait(), scrape.read(""))[1]) for _ in range(19)]
        asking.wait()
        go.set()
        assert all("text/plain" in asked.result(30)[0] for asked in [first, *others])
    assert 2 <= len(made) < 20
    before = len(made)
    scrape.read("")
    assert len(made) == before + 1


def test_the_memory_of_a_device_is_not_waited_for_while_torch_is_being_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That takes seconds, in the thread that loads a model; until then there is nothing to say."""
    monkeypatch.setitem(sys.modules, "torch.cuda", ModuleType("torch.cuda"))
    assert used_and_total_bytes("auto") is None
    monkeypatch.delitem(sys.modules, "torch.cuda")
    assert used_and_total_bytes("auto") is None


def test_gauges_that_cannot_be_read_keep_no_counter_from_being_scraped(caplog: pytest.LogCaptureFixture) -> None:
    """What broke is in the log."""
    scrape = Scrape(Metrics().registry)

    def refresh() -> None:
        raise KeyError("missing")

    scrape.refresh = refresh
    assert b"embedmq_loop_blocked_total 0.0" in scrape.read("")[1]
    assert [record.message for record in caplog.records] == ["gauges_not_refreshed"]


def test_openmetrics_is_spoken_to_whoever_asks_for_it() -> None:
    """Exemplars are in that form only."""
    form, text = Scrape(Metrics().registry).read("application/openmetrics-text;version=1.0.0")
    assert form.startswith("application/openmetrics-text")
    names = {family.name for family in open_families(text.decode())}  # type: ignore[no-untyped-call]  # it has none
    assert names >= {"embedmq_request_seconds", "embedmq_requests"}


def test_more_connections_than_are_served_are_closed_at_once() -> None:
    """They cost no thread; when others are gone, probes are answered again."""
    endpoint = Endpoint("127.0.0.1:0", Health(), Metrics().registry)
    endpoint.start()
    host, port = endpoint.address.split(":")
    try:
        held = [socket.create_connection((host, int(port)), timeout=30) for _ in range(MAX_CONNECTIONS)]
        with socket.create_connection((host, int(port)), timeout=30) as one_more:
            assert one_more.recv(1) == b""
        for connection in held:
            connection.close()
        status = None
        while status != 200:
            probe = http.client.HTTPConnection(endpoint.address, timeout=30)
            try:
                probe.request("GET", "/health")
                status = probe.getresponse().status
            except (OSError, http.client.HTTPException):
                continue  # the threads of those that were closed are ending
            finally:
                probe.close()
    finally:
        endpoint.stop()
