"""What cannot be computed now is tried again later, by whoever can, and holds up nobody meanwhile."""

from __future__ import annotations

import time

import pytest
from embedmq_schemas.catalogue import ModelEntry, encode

from tests.worker.conftest import StartWorker
from tests.worker.world import JSON, World, as_json, new_id, until

SOON = "[worker]\nretry_delays_s = [1]\nload_attempts = 1\nload_failure_s = 0.1\nmax_waiting_for_model = 8\n"
ONE_PARTITION = "[kafka]\npartitions = 1\nretry_partitions = 1\n"
NULL = '[models.null]\ncheckpoint = "null:8"\n'
TAIL = '[models.tail]\ncheckpoint = "null:8"\nshared = true\n'
UNREACHABLE = '[models.far]\ncheckpoint = "hf:nobody/nothing@0123456789abcdef0123456789abcdef01234567"\n'


async def test_a_model_that_nobody_knows_is_parked_once_and_then_unknown(
    world: World, start_worker: StartWorker
) -> None:
    """A catalogue that was lost with its Redis would be back by then; its dead letter names the topic it came to."""
    worker = start_worker(TAIL, SOON)
    id = new_id()
    sent_s = time.monotonic()
    await world.produce(f"{worker.prefix}.shared.bulk", as_json({"id": id, "items": ["x"]}), JSON, key=b"ghost")
    failed = await world.kept(worker, id)
    assert (failed["code"], failed["attempts"]) == ("unknown_model", 1)
    assert time.monotonic() - sent_s >= 1
    assert worker.metric("retries_total", code="unknown_model") == 1
    dead = dict((await world.dead_letter(worker, id)).headers)
    assert dead["kafka_dlt-original-topic"] == f"{worker.prefix}.shared.bulk".encode()
    assert dead["embedmq-lane"] == b"bulk"


async def test_a_model_that_others_serve_waits_for_them_and_spends_nothing(
    world: World, start_worker: StartWorker
) -> None:
    """During a deploy, or on unlike hosts: whoever has the model answers, with the request's own time and attempt."""
    first, replies, id = start_worker(TAIL, SOON), await world.create(new_id()), new_id()
    await world.redis.set(f"{first.prefix}:model:ghost", encode(ModelEntry(name="ghost", shared=True)))
    request = {"id": id, "items": ["x"], "reply": {"type": "topic", "topic": replies}}
    topic = f"{first.prefix}.shared.interactive"
    await world.produce(topic, as_json(request), JSON, key=b"ghost", timestamp_ms=1_700_000_000_000)
    await until(lambda: first.metric("retries_total") >= 2, "the request parked twice")
    start_worker(TAIL.replace("tail", "ghost"), SOON)
    reply = await world.record(replies, lambda record: record.key == id.encode())
    assert reply.timestamp == 1_700_000_000_000
    assert b'"embedded"' in reply.value
    assert first.metric("dead_letters_total") == 0


async def test_a_model_that_cannot_be_reached_is_tried_four_times(world: World, start_worker: StartWorker) -> None:
    """Its hub does not answer: a reason that may pass. In the end the caller learns how often it was tried."""
    worker = start_worker(UNREACHABLE, SOON, env={"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_ETAG_TIMEOUT": "1"})
    id = new_id()
    await world.produce(worker.topic("far"), as_json({"id": id, "items": ["x"]}), JSON)
    failed = await world.kept(worker, id)
    assert (failed["code"], failed["attempts"], failed["retryable"]) == ("model_unavailable", 4, True)
    assert dict((await world.dead_letter(worker, id)).headers)["embedmq-attempt"] == b"4"
    assert worker.metric("retries_total", code="model_unavailable") == 3


async def test_a_model_that_loads_holds_up_only_its_own_requests_in_a_shared_partition(
    world: World, start_worker: StartWorker
) -> None:
    """Fifty requests for it come first, in one partition: those behind them are answered while it loads, and all of
    its own afterwards."""
    slow = '[models.slow]\ncheckpoint = "null:8?load_ms=1"\nshared = true\n'
    worker = start_worker(TAIL + slow, SOON + ONE_PARTITION)
    topic, slow_ids, id = f"{worker.prefix}.shared.interactive", [new_id() for _ in range(50)], new_id()
    with worker.hold.on("load"):
        for slow_id in slow_ids:
            await world.produce(topic, as_json({"id": slow_id, "items": ["x"]}), JSON, key=b"slow")
        await world.produce(topic, as_json({"id": id, "items": ["x"]}), JSON, key=b"tail")
        assert (await world.kept(worker, id))["type"] == "embedded"
        assert worker.metric("model_loaded", model="slow") == 0
        await until(lambda: worker.metric("retries_total") > 0, "those parked that are more than may wait")
    for slow_id in slow_ids:
        assert (await world.kept(worker, slow_id))["type"] == "embedded"


async def test_no_one_is_parked_past_a_deadline(world: World, start_worker: StartWorker) -> None:
    """It fails at once, so that its caller learns it while it waits."""
    worker, id = start_worker(TAIL, "[worker]\nretry_delays_s = [60]\n"), new_id()
    request = {"id": id, "items": ["x"], "deadline_unix_ms": int(time.time() * 1000) + 59_000}
    await world.produce(f"{worker.prefix}.shared.interactive", as_json(request), JSON, key=b"ghost")
    assert (await world.kept(worker, id))["code"] == "deadline_exceeded"
    assert worker.metric("dead_letters_total") == 0


@pytest.mark.parametrize("not_before_s", [2.0, 365 * 24 * 3600.0], ids=["in two seconds", "in a year"])
async def test_a_retry_is_never_early_and_never_later_than_its_topics_delay(
    world: World, start_worker: StartWorker, not_before_s: float
) -> None:
    """Also when the worker that reads it is another than the one that wrote it, and whatever the header says."""
    worker, id = start_worker(NULL, "[worker]\nretry_delays_s = [3]\n[kafka]\nretry_partitions = 1\n"), new_id()
    began_s = time.time()
    due_s = began_s + not_before_s
    headers = [*JSON, ("embedmq-model", b"null"), ("embedmq-not-before", str(int(due_s * 1000)).encode())]
    later = new_id()
    for each in (id, later):
        await world.produce(f"{worker.prefix}.retry.3s", as_json({"id": each, "items": ["x"]}), headers)
    assert (await world.kept(worker, id))["type"] == "embedded"
    assert time.time() - began_s >= min(not_before_s, 3.0) - 0.1
    assert (await world.kept(worker, later))["type"] == "embedded"


async def test_another_revision_is_looked_for_elsewhere(world: World, start_worker: StartWorker) -> None:
    """A worker with another one parks the request, unspent, since a deploy may be under way."""
    worker, id = start_worker(NULL, SOON), new_id()
    await world.produce(worker.topic("null"), as_json({"id": id, "items": ["x"], "revision": "next"}), JSON)
    await until(lambda: worker.metric("retries_total", code="unsupported") >= 2, "the request parked twice")
    assert worker.metric("requests_total") == 0


async def test_what_waits_in_a_retry_topic_survives_the_worker(world: World, start_worker: StartWorker) -> None:
    """It lies in Kafka, and the next worker runs it when it is due."""
    settings = "[worker]\nretry_delays_s = [2]\n[kafka]\nsession_timeout_ms = 6000\nheartbeat_interval_ms = 1000\n"
    worker, id = start_worker(NULL, settings), new_id()
    due_ms = int(time.time() * 1000) + 2_000
    headers = [*JSON, ("embedmq-model", b"null"), ("embedmq-not-before", str(due_ms).encode())]
    await world.produce(f"{worker.prefix}.retry.2s", as_json({"id": id, "items": ["x"]}), headers)
    worker.process.stop(kill=True)
    start_worker(NULL, settings)
    assert (await world.kept(worker, id))["type"] == "embedded"
    assert time.time() * 1000 >= due_ms
