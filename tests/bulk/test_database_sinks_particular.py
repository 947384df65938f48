"""What is particular to LanceDB, Qdrant and Kafka as sinks of bulk jobs."""

from __future__ import annotations

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import lancedb
import msgspec
import pytest
from embedmq.bulk.errors import Away, SinkRefused
from embedmq.bulk.rows import Shape
from embedmq.bulk.sinks.lancedb import MAX_SMALL_FRAGMENTS
from embedmq_local.stack import Stack

from tests.bulk.stores import SHAPE, expected, opened, rows, stored
from tests.worker.world import World


class Fragments(msgspec.Struct):
    """Of LanceDB's statistics, what counts here."""

    num_fragments: int


class Stats(msgspec.Struct):
    """LanceDB's statistics."""

    fragment_stats: Fragments


def create(stack: Stack, topic: str, settings: dict[str, str]) -> str:
    async def run() -> str:
        async with World(stack.kafka, stack.redis) as world:
            return await world.create(topic, settings=settings)

    return asyncio.run(run())


def values(stack: Stack, topic: str) -> list[dict[str, object]]:
    async def run() -> list[bytes | None]:
        async with World(stack.kafka, stack.redis) as world:
            return [record.value for record in await world.records(topic)]

    return [msgspec.json.decode(value or b"") for value in asyncio.run(run())]


def test_many_commits_leave_a_lancedb_table_of_few_fragments(tmp_path: Path, stack: Stack) -> None:
    """Each commit adds a fragment, and a search opens every one of them."""
    uri = f"lancedb://{tmp_path}?table=docs"
    sink = opened(uri)
    for number in range(MAX_SMALL_FRAGMENTS + 4):
        sink.write(rows([number]))
        sink.commit(b"")
    sink.close()
    assert len(stored(uri, stack)) == MAX_SMALL_FRAGMENTS + 4
    stats = msgspec.convert(lancedb.connect(tmp_path).open_table("docs").stats(), Stats)
    assert stats.fragment_stats.num_fragments < 8


def test_of_an_id_that_comes_twice_before_a_commit_lancedb_keeps_the_later_row(tmp_path: Path, stack: Stack) -> None:
    """A log as source has newer versions of a row; they may meet in one merge."""
    uri = str(tmp_path / "docs.lance")
    sink = opened(uri)
    sink.write(rows(range(5)))
    sink.write(rows(range(2, 8), "second"))
    sink.commit(b"")
    sink.close()
    found = stored(f"lancedb://{tmp_path}?table=docs", stack)
    assert len(found) == 8
    assert {row.id: row for row in found} == expected(rows(range(2))) | expected(rows(range(2, 8), "second"))


@pytest.mark.parametrize(
    ("status", "body", "raised", "told"),
    [
        (503, b"starting", Away, "is away: 503 .*starting"),
        (403, b"Invalid API key", SinkRefused, "check QDRANT_API_KEY"),
        (500, b"No space left on device", SinkRefused, "make room"),
        (400, b"strict mode\nforbids it", SinkRefused, "strict mode forbids it"),
    ],
)
def test_what_a_qdrant_server_answers_is_told_in_one_line(
    status: int, body: bytes, raised: type[Exception], told: str
) -> None:
    """What may pass is waited for; the rest is a person's to mend."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            with pytest.raises(raised, match=told) as error:
                opened(f"qdrant://127.0.0.1:{server.server_port}/docs")
        finally:
            server.shutdown()
    assert "\n" not in str(error.value)


def test_a_qdrant_that_does_not_answer_is_away() -> None:
    """It may come back."""
    with pytest.raises(Away, match=r"collection docs at qdrant://127\.0\.0\.1:1/docs is away"):
        opened("qdrant://127.0.0.1:1/docs")


@pytest.mark.parametrize("kind", ["missing", "small"])
def test_a_topic_that_cannot_take_the_rows_is_refused(
    stack: Stack, prefix: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is never made from here, and a row that is larger than it admits is named."""
    monkeypatch.chdir(tmp_path)
    if kind == "missing":
        with pytest.raises(SinkRefused, match=f"topic {prefix} is not at .*--create --topic {prefix}"):
            opened(f"kafka://{stack.kafka}/{prefix}")
        return
    create(stack, prefix, {"max.message.bytes": "2000"})
    shape = Shape(dimensions=2_000, keep=SHAPE.keep)
    sink = opened(f"kafka://{stack.kafka}/{prefix}", shape)
    with pytest.raises(SinkRefused, match=r"row \"doc/0's\" is too large for it: raise its max.message.bytes"):
        sink.write(rows([0], shape=shape))
    sink.close()
    sink.open("nightly", SHAPE)
    sink.write(rows([1]))
    sink.close()


def test_a_topic_gets_rows_that_any_language_can_read_and_is_never_asked_what_it_has(
    stack: Stack, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `encoding=array` the numbers are JSON's; the connection may come from the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMBEDMQ_KAFKA", stack.kafka)
    create(stack, prefix, {})
    sink = opened(f"kafka:///{prefix}?encoding=array")
    made = rows([3])
    sink.write(made)
    with pytest.raises(SinkRefused, match=r"log.* cannot be asked"):
        sink.hashes(made.ids)
    sink.close()
    assert values(stack, prefix) == [
        {
            "id": "doc/3's",
            "title": "first of doc/3's",
            "pages": 7,
            "vector": {"dtype": "float32", "shape": [4], "data": made.dense[0].tolist()},
            "model": "minilm",
            "revision": "r1",
            "hash": made.hashes[0].hex(),
        }
    ]


def test_a_kafka_that_is_away_is_told_as_such(
    stack: Stack, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the checkpoint's lock is free again after the close."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Away, match=r"127\.0\.0\.1:1"):
        opened(f"kafka://127.0.0.1:1/{prefix}")
    create(stack, prefix, {})
    opened(f"kafka://{stack.kafka}/{prefix}").close()
