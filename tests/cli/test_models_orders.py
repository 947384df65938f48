"""How do orders end that nobody follows?"""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from embedmq.control import merge
from embedmq_schemas.catalogue import ModelStatus, WorkerStatus, encode
from embedmq_schemas.control import Order

from tests.cli.conftest import Run
from tests.producer.standin import StandIn


def say(worker: StandIn, status: WorkerStatus) -> None:
    """Publish it as a worker's, from the stand-in's thread."""
    written = worker.redis.set(f"{worker.prefix}:worker:{status.id}", encode(status), ex=60)
    asyncio.run_coroutine_threadsafe(_wait(written), worker.loop).result(30)


async def _wait(written: object) -> None:
    assert asyncio.iscoroutine(written)
    await written


def test_an_order_that_nobody_follows_ends_with_a_code_that_says_why(embedmq: Run, worker: StandIn) -> None:
    """Without a control topic 2; without workers 1, and it stands; 2 for a name that none lists; 4 when one does not
    heed it in time; 1 when one that lists the model refuses."""
    missing = embedmq("models", "pin", "minilm")
    assert missing.code == 2
    assert "control" in missing.err
    assert embedmq("topics", "create", "minilm").code == 0
    alone = embedmq("models", "pin", "minilm")
    assert alone.code == 1
    assert "no worker runs" in alone.out
    late = WorkerStatus(id="w1", models={"minilm": ModelStatus(state="absent")}, control_offset=0)
    say(worker, late)
    assert embedmq("models", "load", "other").code == 2
    assert embedmq("models", "load", "minilm", "--wait-s", "0").code == 4
    say(worker, msgspec.structs.replace(late, control_offset=99, refused={"minilm": "no such entry"}))
    refused = embedmq("models", "load", "minilm")
    assert refused.code == 1
    assert "no such entry" in refused.out


def test_who_unloads_a_model_for_which_requests_wait_is_told_so(embedmq: Run, worker: StandIn) -> None:
    """No worker will tell of them from then on."""
    assert embedmq("topics", "create", "quiet", "busy").code == 0
    listed = {name: ModelStatus(state="absent", served=False) for name in ("quiet", "busy")}
    say(worker, WorkerStatus(id="w1", models=listed, control_offset=99))
    assert embedmq("submit", "busy", "a", "--lane", "bulk").code == 0
    quiet, busy = embedmq("models", "unload", "quiet"), embedmq("models", "unload", "busy", "--json")
    assert (quiet.code, quiet.err) == (0, "")
    assert (busy.code, len(busy.lines)) == (0, 1)
    assert "1 requests for busy wait" in busy.err


def test_an_order_goes_nowhere_when_kafka_is_away(embedmq: Run, worker: StandIn) -> None:
    """Exit code 3, one line."""
    away = embedmq("--kafka", "127.0.0.1:1", "models", "pin", worker.model)
    assert away.code == 3
    assert len(away.err.splitlines()) == 1


@pytest.mark.parametrize("before", [Order(), Order(served=True, entry="v2"), Order(pinned=True, by="ada")])
def test_an_order_keeps_what_the_last_one_said_of_anything_else(before: Order) -> None:
    """And says who gave it, and when."""
    after = merge(before, None, False, None, "bob", 5)
    assert (after.served, after.entry) == (before.served, before.entry)
    assert (after.pinned, after.by, after.issued_unix_ms) == (False, "bob", 5)
