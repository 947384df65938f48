"""A worker starts when the world is there, shares its work with others, and stops without losing or redoing any."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections import Counter

import pytest

from tests.worker.conftest import StartWorker
from tests.worker.world import JSON, Running, World, as_json, eventually, new_id, packed, until

NULL = '[models.null]\ncheckpoint = "null:8"\n'
SLOW = '[models.slow]\ncheckpoint = "null:8?batch_ms=200"\n'
EXIT_TIMEOUT_S = 60.0


def exit_code(worker: Running, timeout_s: float = EXIT_TIMEOUT_S) -> int | None:
    assert worker.process.process is not None
    return worker.process.process.wait(timeout_s)


def last_words(worker: Running) -> list[str]:
    """What a person sees: lines that are no event of the log."""
    return [line for line in worker.lines() if not line.startswith("{")]


async def test_topics_are_made_before_they_are_read_with_the_settings_that_bound_memory(
    world: World, worker: Running
) -> None:
    """Eight partitions, seven days, one broker's copy; the broker unpacks what producers compressed, so that no fetch
    swells in a worker; the dead-letter topic takes the largest request and its reasons."""
    for name in ("null", "slow", "shared"):
        for lane in ("interactive", "bulk"):
            topic = worker.topic(name, lane)
            assert await world.partitions(topic) == 8
            settings = await world.settings(topic)
            assert settings["retention.ms"] == "604800000"
            assert settings["compression.type"] == "uncompressed"
            assert settings["max.message.bytes"] == "1048588"
    dead = await world.settings(worker.dead)
    assert int(dead["max.message.bytes"]) >= 900 * 1024 + 64 * 1024
    assert dead["retention.ms"] == "604800000"
    assert await world.partitions(worker.dead) == 1


async def test_a_group_has_committed_before_its_first_record(world: World, worker: Running) -> None:
    """At the first assignment, everywhere, so that lag is a number from the first moment on."""
    topic = worker.topic("null", "bulk")

    async def committed() -> bool | None:
        return set(await world.committed(f"{worker.prefix}.bulk", topic)) == set(range(8)) or None

    await eventually(committed, "offsets of all partitions")


async def test_the_catalogue_says_what_is_served_and_where(world: World, worker: Running) -> None:
    """One entry a model, with a time to live longer than its refresh."""
    entry = json.loads(await world.redis.get(f"{worker.prefix}:model:null") or "{}")
    assert entry == {
        "name": "null",
        "shared": False,
        "outputs": ["dense"],
        "scores": False,
        "dimensions": 8,
        "max_tokens": 8192,
        "revision": "",
        "limits": {
            "max_request_bytes": 921_600,
            "max_items": 2_048,
            "max_stream_reply_bytes": 8_388_608,
            "max_topic_reply_bytes": 921_600,
            "max_meta_bytes": 4_096,
            "max_keep_s": 604_800,
        },
    }
    assert json.loads(await world.redis.get(f"{worker.prefix}:model:tail") or "{}")["shared"] is True
    assert 45 < await world.redis.ttl(f"{worker.prefix}:model:null") <= 90


async def test_where_a_model_is_served_is_what_the_configuration_says_now(
    world: World, start_worker: StartWorker, prefix: str
) -> None:
    """Before it is loaded, too: what others said it can do stays, where and within which limits is said anew."""
    said = {"name": "null", "shared": False, "outputs": ["dense"], "dimensions": 8, "limits": {"max_items": 3}}
    await world.redis.set(f"{prefix}:model:null", json.dumps(said), ex=60)
    start_worker(NULL.replace("pinned = true", "") + "shared = true\n")

    async def anew() -> bool | None:
        entry = json.loads(await world.redis.get(f"{prefix}:model:null") or "{}")
        assert (entry["outputs"], entry["dimensions"]) == (["dense"], 8)
        return (entry["shared"] and entry["limits"]["max_items"] == 2_048) or None

    await eventually(anew, "the entry says that the model is on the shared topics")


async def test_a_worker_says_how_it_is(world: World, worker: Running) -> None:
    """Its models, and how long a request sent now would wait; gone soon after the worker is."""
    (key,) = await world.redis.keys(f"{worker.prefix}:worker:*")
    status = json.loads(await world.redis.get(key) or "{}")
    assert key == f"{worker.prefix}:worker:{status['id']}".encode()
    assert {event["worker"] for event in worker.events()} == {status["id"]}
    null = status["models"]["null"]
    assert (null["state"], null["pinned"], null["path"], null["loads"]) == ("resident", True, "null", 1)
    assert null["wait_s"] == {"interactive": 0.0, "bulk": 0.0}
    assert (null["bytes"], null["evictions"], null["failures"], null["error"]) == (0, 0, 0, "")
    assert status["started_unix_ms"] == pytest.approx(time.time() * 1000, abs=600_000)
    assert 0 < await world.redis.ttl(key) <= 20


async def test_sigterm_drains_commits_leaves_and_nothing_is_computed_twice(
    world: World, start_worker: StartWorker
) -> None:
    """The first worker stops in the middle of a backlog: exit code 0, every record that it read is answered and
    committed, and a second worker answers exactly the rest."""
    first = start_worker(SLOW, "[worker]\nmax_batch_items = 4\n[kafka]\nmax_poll_records = 4\n")
    client, total = new_id(), 60
    reply = {"type": "stream", "client": client}
    await world.produce_all(
        first.topic("slow"), [packed({"id": f"{client}-{n}", "items": ["x"], "reply": reply}) for n in range(total)]
    )
    await world.replies(first, client, 1)
    first.process.process.signal(signal.SIGTERM)  # type: ignore[union-attr]  # it runs
    assert exit_code(first) == 0
    assert last_words(first) == []
    assert [event["event"] for event in first.events() if event["event"] in {"stopping", "stopped"}] == [
        "stopping",
        "stopped",
    ]
    done = sum(len(entry) for entry in await world.entries(first, client))
    committed = sum((await world.committed(f"{first.prefix}.interactive", first.topic("slow"))).values())
    assert committed == done
    assert await world.redis.keys(f"{first.prefix}:worker:*") == []
    second = start_worker(SLOW, ready=False)
    await world.replies(second, client, total)
    counts = Counter(result["id"] for entry in await world.entries(second, client) for result in entry)
    assert (len(counts), set(counts.values())) == (total, {1})


async def test_a_stop_with_nothing_to_do_is_quick(start_worker: StartWorker) -> None:
    """Within the time of one idle fetch and a last commit."""
    worker = start_worker(NULL)
    begin_s = time.monotonic()
    assert worker.process.stop() == 0
    assert time.monotonic() - begin_s < 20, "less than it has for what is in flight"
    assert not worker.events("grace_passed")


async def test_a_backlog_for_a_model_that_loads_holds_up_no_other(world: World, start_worker: StartWorker) -> None:
    """However much lies in Kafka for it: what there is no room for stays there, and is computed later."""
    models = NULL + '[models.late]\ncheckpoint = "null:8?load_ms=1"\n'
    worker = start_worker(models)
    assert worker.process.stop() == 0
    ids = [new_id() for _ in range(40)]
    backlog = [packed({"id": id, "items": ["x"] * 1_000}) for id in ids]
    await world.produce_all(worker.topic("late", "bulk"), backlog)
    with worker.hold.on("load") as held:
        worker = start_worker(models, "[worker]\nmax_in_flight_items = 10_000\n")
        await until(held, "the backlog waits for its model")
        for _ in range(3):
            await world.ask(worker, "null", {"items": ["x"]}, lane="bulk")
        assert not worker.events("model_loaded", model="late")
    for id in ids:
        await world.kept_bytes(worker, id)


async def test_a_stop_before_the_worker_is_ready_is_heeded(start_worker: StartWorker) -> None:
    """Ctrl-C while Kafka is looked for does not wait for Kafka."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        env = {"EMBEDMQ_KAFKA": address, "EMBEDMQ_KAFKA__START_TIMEOUT_S": "600"}
        worker = start_worker(NULL, env=env, ready=False)
        await eventually_listening(worker)
        assert worker.process.stop(timeout_s=EXIT_TIMEOUT_S) == 0


async def eventually_listening(worker: Running) -> None:
    """Until it has set up its signals: it answers probes as soon as it has."""

    async def probe() -> bool | None:
        try:
            return worker.get("/ready")[0] == 503 or None
        except OSError:
            return None

    await eventually(probe, "an answer that it is not ready")


async def test_two_workers_share_the_partitions_and_one_that_joins_loses_nothing(
    world: World, start_worker: StartWorker
) -> None:
    """While requests keep coming a second worker joins: every id is answered, and both have worked."""
    first = start_worker(NULL)
    client, sent = new_id(), 0
    reply = {"type": "stream", "client": client}

    async def send(count: int) -> None:
        nonlocal sent
        values = [packed({"id": f"{client}-{sent + n}", "items": ["x"], "reply": reply}) for n in range(count)]
        await world.produce_all(first.topic("null"), values)
        sent += count

    await send(200)
    second = start_worker(NULL, ready=False)

    async def joined() -> bool | None:
        await send(50)
        try:
            return second.metric("items_total") > 0 or None
        except OSError:
            return None

    await eventually(joined, "work for the second worker")
    before = first.metric("items_total")
    await send(400)
    results = await world.replies(first, client, sent)
    assert set(results) == {f"{client}-{n}" for n in range(sent)}
    assert first.metric("items_total") > before
    assert [w.metric("assigned_partitions", lane="interactive") for w in (first, second)] == [4, 4]
    assert [w.metric("assigned_partitions", lane="bulk") for w in (first, second)] == [4, 4]


async def test_workers_with_unlike_models_share_a_group(world: World, start_worker: StartWorker) -> None:
    """Hosts differ: each model's topics go to those who serve it."""
    first = start_worker(NULL)
    second = start_worker('[models.other]\ncheckpoint = "null:4"\n')
    assert (await world.ask(first, "null", {"items": ["x"]}))["dense"]["shape"] == [1, 8]
    assert (await world.ask(second, "other", {"items": ["x"]}))["dense"]["shape"] == [1, 4]
    assert (await world.ask(first, "null", {"items": ["x"]}, lane="bulk"))["type"] == "embedded"
    assert first.events("assigned")[-1]["partitions"] == 8


async def test_a_worker_killed_in_the_middle_loses_nothing(world: World, start_worker: StartWorker) -> None:
    """What it had read and not delivered is read again by the next: every id is answered, at least once."""
    settings = "[kafka]\nsession_timeout_ms = 1000\nheartbeat_interval_ms = 300\n[worker]\nmax_batch_items = 4\n"
    first = start_worker(SLOW, settings)
    client, total = new_id(), 24
    reply = {"type": "stream", "client": client}
    await world.produce_all(
        first.topic("slow"), [packed({"id": f"{client}-{n}", "items": ["x"], "reply": reply}) for n in range(total)]
    )
    await world.replies(first, client, 1)
    first.process.stop(kill=True)
    second = start_worker(SLOW, settings, ready=False)
    assert set(await world.replies(second, client, total)) == {f"{client}-{n}" for n in range(total)}


async def test_replies_go_only_where_the_allow_list_lets_them(world: World, start_worker: StartWorker) -> None:
    """Shell patterns name the topics; any other is undeliverable although it exists."""
    worker = start_worker(NULL, '[worker]\nreply_topics = ["vectors-*"]\n[redis]\ndefault_keep_s = 77\n')
    allowed, denied, id = f"vectors-{new_id()}", new_id(), new_id()
    await world.create(allowed)
    await world.create(denied)
    failed = await world.ask(worker, "null", {"items": ["x"], "reply": {"type": "topic", "topic": denied}})
    assert failed["code"] == "undeliverable"
    assert await world.records(denied) == []
    request = {"id": id, "items": ["x"], "reply": {"type": "topic", "topic": allowed}}
    await world.produce(worker.topic("null"), as_json(request), JSON)
    assert (await world.record(allowed, lambda record: True)).key == id.encode()
    assert (await world.ask(worker, "null", {"id": id, "items": ["x"]}))["type"] == "embedded"
    assert 60 < await world.redis.ttl(f"{worker.prefix}:result:{id}") <= 77


async def test_a_text_of_10_megabytes_on_a_wider_topic_is_too_large_and_what_follows_is_computed(
    world: World, start_worker: StartWorker, prefix: str
) -> None:
    """Where somebody made the topic wider, the record reaches the worker and is answered; its neighbours never notice.
    So is one of 10 MB that is no request, whose dead letter no topic takes."""
    topic = await world.create(f"{prefix}.null.interactive", settings={"max.message.bytes": "20000000"})
    worker = start_worker(NULL)
    id, after = new_id(), new_id()
    await world.produce(topic, as_json({"id": id, "items": ["x" * 10_000_000]}), JSON)
    await world.produce(topic, as_json({"id": after, "items": ["x"]}), JSON)
    failed = await world.kept(worker, id)
    assert (failed["type"], failed["code"], failed["fits"]) == ("failed", "too_large", None)
    assert (await world.kept(worker, after))["type"] == "embedded"
    assert await world.dead_letters(worker, id) == []


async def test_a_dead_letter_that_its_topic_cannot_take_stops_nobody(
    world: World, start_worker: StartWorker, prefix: str
) -> None:
    """A broken record with 3 MB of headers: too large for the dead-letter topic. It is logged and answered, and what
    follows is computed."""
    topic = await world.create(f"{prefix}.null.interactive", settings={"max.message.bytes": "20000000"})
    worker = start_worker(NULL)
    id, after = new_id(), new_id()
    await world.produce(topic, as_json({"id": id, "items": [7]}), [*JSON, ("x", b"x" * 3_000_000)])
    await world.produce(topic, as_json({"id": after, "items": ["x"]}), JSON)
    assert (await world.kept(worker, id))["code"] == "malformed"
    assert (await world.kept(worker, after))["type"] == "embedded"
    await until(lambda: bool(worker.events("dead_letter_refused", id=id)), "an event that says so")


@pytest.mark.parametrize("service", ["kafka", "redis"])
async def test_a_service_that_is_not_there_is_one_line_and_exit_code_3_in_bounded_time(
    start_worker: StartWorker, service: str
) -> None:
    """With the address and how long it was looked for."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        env = {
            f"EMBEDMQ_{service.upper()}": address if service == "kafka" else f"redis://:hunter2@{address}/0",
            f"EMBEDMQ_{service.upper()}__START_TIMEOUT_S": "1",
        }
        begin_s = time.monotonic()
        worker = start_worker(NULL, env=env, ready=False)
        assert exit_code(worker) == 3
        assert time.monotonic() - begin_s < 30, "less than where nothing is said"
    (line,) = last_words(worker)
    assert service in line.lower()
    assert address in line
    assert "1 s" in line
    assert "hunter2" not in line


@pytest.mark.parametrize(
    "env",
    [{"EMBEDMQ_KAFKA__TLS": "true"}, {"EMBEDMQ_REDIS__PASSWORD": "wrong", "EMBEDMQ_REDIS__USERNAME": "nobody"}],
    ids=["TLS to a broker without", "a login that Redis refuses"],
)
async def test_a_service_that_does_not_let_us_in_is_exit_code_3_too(
    start_worker: StartWorker, env: dict[str, str]
) -> None:
    """Bounded as well."""
    timeouts = {"EMBEDMQ_KAFKA__START_TIMEOUT_S": "1", "EMBEDMQ_REDIS__START_TIMEOUT_S": "1"}
    worker = start_worker(NULL, env={**timeouts, **env}, ready=False)
    assert exit_code(worker) == 3
    assert len(last_words(worker)) == 1


@pytest.mark.parametrize(
    ("models", "settings", "env", "words"),
    [
        (NULL, "[worker]\nmax_batch_ms = 0\n", {}, ["worker.max_batch_ms", "0", "> 0"]),
        (NULL, "", {"EMBEDMQ_WORKER__HTTP": "nowhere"}, ["worker.http", "nowhere"]),
        ('[models.m]\ncheckpoint = "/no/such/folder"\n', "", {}, ["/no/such/folder", "no such folder"]),
    ],
    ids=["value", "address", "folder"],
)  # fmt: skip
async def test_a_wrong_configuration_is_one_line_and_exit_code_2(
    start_worker: StartWorker, models: str, settings: str, env: dict[str, str], words: list[str]
) -> None:
    """Key, value and rule."""
    worker = start_worker(models, settings, env=env, ready=False)
    assert exit_code(worker) == 2
    (line,) = last_words(worker)
    assert all(word in line for word in words), line


async def test_a_worker_without_a_file_says_what_it_needs(start_worker: StartWorker) -> None:
    """There is no model to guess."""
    worker = start_worker("", ready=False)
    assert exit_code(worker) == 2
    assert "models" in last_words(worker)[-1]
