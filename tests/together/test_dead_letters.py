"""A real worker's dead letters, from the failure to the success that takes its place."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import embedmq
import pytest
from embedmq_local.stack import Stack

from tests import held
from tests.worker.world import JSON, Running, World, as_json, eventually, kill, new_id, start

NULL = '[models.null]\ncheckpoint = "null:8"\npinned = true\nshared = true\n'
LATE = '[models.late]\ncheckpoint = "null:8"\npinned = true\nshared = true\n'
BROKEN = '[models.late]\ncheckpoint = "{folder}"\nshared = true\n'
SOON = "[worker]\nretry_delays_s = [1]\n"
LATER = {held.AHEAD: "3600"}
"""A worker for which it is an hour later."""

StartWorker = Callable[..., Running]
Dead = Callable[..., Awaitable[list[Any]]]


@pytest.fixture
def start_worker(stack: Stack, tmp_path: Path, prefix: str) -> Iterator[StartWorker]:
    """Workers of one test."""
    started: list[Running] = []

    (tmp_path / "config.json").write_text("{}")

    def run(models: str, env: Mapping[str, str] | None = None) -> Running:
        running = start(stack, tmp_path, prefix, models.replace("{folder}", str(tmp_path)), SOON, env)
        started.append(running)
        running.process.wait_ready()
        return running

    yield run
    for running in started:
        kill(running.process)


@pytest.fixture
async def world(stack: Stack) -> AsyncIterator[World]:
    """Kafka and Redis by their own clients."""
    async with World(stack.kafka, stack.redis) as world:
        yield world


@pytest.fixture
def dead(stack: Stack, prefix: str) -> Dead:
    """`embedmq dead … --json` as a process: what it printed; it must end in `code`."""
    environment = os.environ | {"EMBEDMQ_KAFKA": stack.kafka, "EMBEDMQ_REDIS": stack.redis, "EMBEDMQ_PREFIX": prefix}

    async def run(*arguments: str, code: int = 0) -> list[Any]:
        command = [sys.executable, "-m", "embedmq", "dead", *arguments, "--json"]
        done = await asyncio.to_thread(
            subprocess.run, command, env=environment, capture_output=True, timeout=110, check=False
        )
        assert done.returncode == code, done.stderr.decode()
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


async def buried(dead: Dead, count: int) -> list[Any]:
    """The letters, once there are so many."""

    async def probe() -> list[Any] | None:
        found = await dead("list")
        return found if len(found) >= count else None

    return await eventually(probe, f"{count} dead letters")


@pytest.mark.parametrize(("models", "code"), [(NULL + BROKEN, "model_unavailable"), (NULL, "unknown_model")])
async def test_a_model_that_comes_late_answers_what_failed_for_want_of_it(
    stack: Stack, prefix: str, world: World, dead: Dead, start_worker: StartWorker, models: str, code: str
) -> None:
    """Nobody serves the model, or it cannot be loaded: a failure is kept, and a dead letter written. A worker with the
    model comes, the letter is replayed when the request's deadline has passed, and the result under the same id is a
    success. Purging empties all.
    """
    id, shared = new_id(), f"{prefix}.shared.interactive"
    first = start_worker(models)
    deadline_ms = int(time.time() * 1000) + 1000 * 600
    request = {"id": id, "model": "late", "items": ["the secret text"], "deadline_unix_ms": deadline_ms}
    partition, offset = await world.produce(shared, as_json(request), [*JSON, ("x-own", b"1")], key=b"late")
    (letter,) = await buried(dead, 1)
    assert (letter["id"], letter["model"], letter["code"], letter["fault"]) == (id, "late", code, None)
    assert (letter["topic"], letter["partition"], letter["offset"]) == (shared, partition, offset)
    (shown,) = await dead("show", id)
    assert ["x-own", "1"] in shown["headers"]
    assert "secret" not in json.dumps(shown)

    async with embedmq.Client(stack.kafka, stack.redis, prefix=prefix) as mq:
        with pytest.raises(embedmq.RequestFailed) as failed:
            await mq.result(id, wait_s=60)
        assert failed.value.code == code
        first.process.stop()
        start_worker(NULL + LATE, LATER)
        (sent,) = await dead("replay", "--model", "late")
        assert (sent["id"], sent["outcome"]) == (id, "replayed")

        async def answered() -> embedmq.Embeddings | None:
            try:
                return await mq.result(id)
            except embedmq.RequestFailed:
                return None

        assert (await eventually(answered, "a success in place of the failure")).dense.shape == (1, 8)

    assert [letter["id"] for letter in await dead("list")] == [id]
    await dead("purge", "--before", "0s", "--yes")
    assert await dead("list") == []


async def test_a_reply_topic_that_comes_late_gets_its_reply(
    prefix: str, world: World, dead: Dead, start_worker: StartWorker
) -> None:
    """It was missing: the letter says so; once it is there, a replay delivers."""
    worker, id, topic = start_worker(NULL), new_id(), f"replies-{prefix}"
    request = {"id": id, "model": "null", "items": ["a"], "reply": {"type": "topic", "topic": topic}}
    await world.produce(worker.topic("shared"), as_json(request), JSON)
    (letter,) = await buried(dead, 1)
    assert letter["code"] == "undeliverable"
    await world.create(topic)

    async def replied() -> bool | None:
        """More than once, while the worker believes the topic to be missing: repeating a replay is harmless."""
        await dead("replay", "--code", "undeliverable")
        return bool(await world.records(topic)) or None

    await eventually(replied, f"a reply on {topic}")
    assert {record.key for record in await world.records(topic)} == {id.encode()}


async def test_what_cannot_succeed_dies_again_under_its_id_and_is_replayed_once(
    prefix: str, world: World, dead: Dead, start_worker: StartWorker
) -> None:
    """A broken request: a second letter of the same id, whose first place is where it was read last; of the two only
    the later one is sent.
    """
    worker = start_worker(NULL)
    await world.produce(worker.topic("shared"), b'{"id": "broken", "model": "null", "items": 1}', JSON)
    await buried(dead, 1)
    assert [line["outcome"] for line in await dead("replay")] == ["replayed"]
    first, second = await buried(dead, 2)
    assert (first["id"], first["code"]) == (second["id"], second["code"]) == ("broken", "malformed")
    assert first["place"] != second["place"]
    lines = await dead("replay", "--dry-run")
    assert {line["place"]: line["outcome"] for line in lines} == {
        first["place"]: "superseded",
        second["place"]: "would replay",
    }
