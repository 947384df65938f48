"""A pass over a source: every row ends in the sink or among the failed ones, once, whatever stops it meanwhile."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import embedmq
import msgspec
import pytest
import pytest_asyncio
from embedmq.bulk.checkpoint import decode, encode
from embedmq.bulk.errors import Away, CheckpointRefused, JobStopped, RevisionChanged, SinkRefused, ValueRefused
from embedmq.bulk.order import Order
from embedmq.bulk.patience import Patience
from embedmq.bulk.rate import BURST_S
from embedmq.bulk.reindex import Reindex
from embedmq.bulk.rows import Columns, Shape, Vectors
from embedmq_local.stack import Stack

from tests.bulk.memory import ROWS_PER_BLOCK, Drawer, Shelf
from tests.serving import serving

SHAPE = Shape(dimensions=8, model="null")
DOCS: list[tuple[str, str] | str] = [(f"doc-{i}", f"text {i}") for i in range(300)]


@pytest.fixture(scope="module")
def served(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The prefix under which a worker serves `null`."""
    with serving(stack, tmp_path_factory.mktemp("bulk"), '[models.null]\ncheckpoint = "null:8"\n') as prefix:
        yield prefix


@pytest_asyncio.fixture
async def mq(stack: Stack, served: str) -> AsyncIterator[embedmq.Client]:
    async with embedmq.Client(stack.kafka, stack.redis, prefix=served) as client:
        yield client


@pytest.fixture
def order(tmp_path: Path) -> Order:
    return Order(
        model="null",
        source="shelf.jsonl",
        sink="drawer.npy",
        name="job",
        failed=tmp_path / "job.failed.jsonl",
        rows_per_request=10,
        commit_rows=50,
        patience_s=5,
    )


def new(mq: embedmq.Client, order: Order, shelf: Shelf, drawer: Drawer, **others: Any) -> Reindex:
    going = asyncio.Event()
    going.set()
    settings: dict[str, Any] = {"shape": SHAPE, "max_text_bytes": 1_000, "patience": Patience(5), "going": going}
    return Reindex(mq, order, shelf, drawer, **(settings | others))


def changed(order: Order, **fields: object) -> Order:
    return msgspec.structs.replace(order, **fields)


def failures(order: Order) -> list[dict[str, Any]]:
    return [json.loads(line) for line in order.failed.read_text().splitlines()] if order.failed.exists() else []


async def test_every_row_is_in_the_sink_and_the_job_is_done(mq: embedmq.Client, order: Order) -> None:
    """The checkpoint counts them, and the same command has nothing left to do."""
    drawer = Drawer()
    assert await new(mq, order, Shelf(DOCS), drawer).run(restart=False) == "done"
    assert sorted(drawer.kept) == sorted(f"doc-{i}" for i in range(300))
    counts = decode(drawer.checkpoints["job"]).counts
    assert (counts.read, counts.done, counts.failed) == (300, 300, 0)
    again = Shelf(DOCS)
    assert await new(mq, order, again, drawer).run(restart=False) == "done"
    assert again.taken == 0
    assert not order.failed.exists()


async def test_what_is_wrong_with_a_row_is_told_in_a_file_that_is_a_source(mq: embedmq.Client, order: Order) -> None:
    """Unreadable, too large, no UTF-8, an id twice: each with its place; the other rows are in the sink."""
    rows: list[tuple[str, str] | str] = [
        ("a", "good"),
        "broken JSON",
        ("b", "x" * 2_000),
        ("c", "half \ud800"),
        ("a", "again"),
    ]
    drawer = Drawer()
    order = changed(order, columns=Columns(text="body", id="key"))
    assert await new(mq, order, Shelf(rows), drawer).run(restart=False) == "done"
    assert list(drawer.kept) == ["a"]
    found = {line["error"]["where"]: line for line in failures(order)}
    assert {where: line["error"]["code"] for where, line in found.items()} == {
        "row 1": "unreadable",
        "row 2": "too_large",
        "row 3": "malformed",
        "row 4": "duplicate_id",
    }
    assert found["row 4"]["key"] == "a"
    assert found["row 4"]["body"] == "again"
    assert "row 0" in found["row 4"]["error"]["message"]


async def test_a_row_that_the_sink_cannot_hold_is_a_failed_row(mq: embedmq.Client, order: Order) -> None:
    """The others of its block are in the sink."""
    drawer = Drawer()

    def refuse(vectors: Vectors) -> None:
        for row, id in enumerate(vectors.ids):
            if id in ("doc-7", "doc-8", "doc-40"):
                raise ValueRefused(row, "no such id here")

    drawer.before_write = refuse
    assert await new(mq, order, Shelf(DOCS), drawer).run(restart=False) == "done"
    assert len(drawer.kept) == 297
    told = [(line["id"], line["error"]["code"], line["error"]["where"]) for line in failures(order)]
    assert told == [(f"doc-{i}", "refused_by_sink", f"row {i}") for i in (7, 8, 40)]


async def test_a_job_whose_rows_all_misfit_ends_soon(mq: embedmq.Client, order: Order) -> None:
    """Rather than embed a million rows for a file of failures."""
    drawer = Drawer()

    def refuse(vectors: Vectors) -> None:
        raise ValueRefused(0, "text in a column of numbers")

    drawer.before_write = refuse
    with pytest.raises(SinkRefused, match="a column of numbers; so it is with the first"):
        await new(mq, order, Shelf(DOCS), drawer).run(restart=False)


async def test_what_is_missing_is_not_added_to_another_revisions_vectors(mq: embedmq.Client, order: Order) -> None:
    """`changed` replaces them all."""
    drawer = Drawer()
    old = msgspec.structs.replace(decode(await done(mq, order, drawer)), revision="older")
    drawer.checkpoints["job"] = encode(old)
    with pytest.raises(RevisionChanged, match="--changed-only"):
        await new(mq, changed(order, mode="missing"), Shelf(DOCS), drawer).run(restart=False)
    assert await new(mq, changed(order, mode="changed"), Shelf(DOCS), drawer).run(restart=False) == "done"


async def done(mq: embedmq.Client, order: Order, drawer: Drawer) -> bytes:
    """The checkpoint of a job that is done."""
    await new(mq, order, Shelf(DOCS), drawer).run(restart=False)
    return drawer.checkpoints["job"]


@pytest.mark.parametrize("at", [0, 64, 160, 288])
async def test_a_job_that_was_stopped_goes_on_where_it_was(mq: embedmq.Client, order: Order, at: int) -> None:
    """What the last commit had is not read again; ids that came before the stop are known after it."""
    rows = [*DOCS, ("doc-3", "an id of the first block")]
    shelf, drawer = Shelf(rows), Drawer()

    def kill(row: int) -> None:
        if row == at:
            raise MemoryError

    shelf.before_block = kill
    with pytest.raises(MemoryError):
        await new(mq, order, shelf, drawer).run(restart=False)
    kept = set(drawer.kept)
    shelf.before_block = lambda row: None
    seen: list[str] = []
    drawer.before_write = lambda vectors: seen.extend(vectors.ids)
    assert await new(mq, order, shelf, drawer).run(restart=False) == "done"
    assert not kept & set(seen)
    assert len(drawer.kept) == 300
    assert [line["id"] for line in failures(order)] == ["doc-3"]
    assert decode(drawer.checkpoints["job"]).counts.read == 301


async def interrupt(job: asyncio.Task[Any], interrupted: threading.Event) -> None:
    """Cancel a job, and tell its sink when it has been."""
    job.cancel()
    await asyncio.sleep(0)
    interrupted.set()


async def test_an_interrupted_job_commits_what_it_has_written(mq: embedmq.Client, order: Order) -> None:
    """Ctrl-C costs no row that the sink had."""
    shelf, drawer, third, interrupted = Shelf(DOCS), Drawer(), asyncio.Event(), threading.Event()
    loop, written = asyncio.get_running_loop(), list[str]()

    def note(vectors: Vectors) -> None:
        if len(written) >= 3 * ROWS_PER_BLOCK:
            loop.call_soon_threadsafe(third.set)
            assert interrupted.wait(60)  # as a sink does that is slow when it is interrupted
        written.extend(vectors.ids)

    drawer.before_write = note
    order = changed(order, commit_rows=10_000)
    task = asyncio.create_task(new(mq, order, shelf, drawer).run(restart=False))
    await third.wait()
    await interrupt(task, interrupted)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert drawer.commits == 1
    assert len(drawer.kept) >= 3 * ROWS_PER_BLOCK
    assert set(written) >= set(drawer.kept)


@pytest.mark.parametrize("fails_in", ["write", "commit"])
async def test_a_sink_that_fails_while_the_job_is_interrupted_keeps_no_checkpoint(
    mq: embedmq.Client, order: Order, fails_in: str
) -> None:
    """What it may have lost is not said to be there, and the interruption is what ends the job."""
    drawer, reached, interrupted = Drawer(), asyncio.Event(), threading.Event()
    loop, written = asyncio.get_running_loop(), list[str]()

    def fail(vectors: Vectors) -> None:
        written.extend(vectors.ids)
        if len(written) > 2 * ROWS_PER_BLOCK:
            loop.call_soon_threadsafe(reached.set)
            assert interrupted.wait(60)
            if fails_in == "write":
                drawer.written = {}
                raise SinkRefused("no space left")

    def away() -> None:
        raise Away("the drawer")

    drawer.before_write = fail
    drawer.before_commit = away if fails_in == "commit" else lambda: None
    task = asyncio.create_task(new(mq, changed(order, commit_rows=10_000), Shelf(DOCS), drawer).run(restart=False))
    await reached.wait()
    await interrupt(task, interrupted)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (drawer.commits, drawer.kept) == (0, {})


async def test_only_what_is_missing_or_has_changed_is_embedded(mq: embedmq.Client, order: Order) -> None:
    """`missing` asks for ids, `changed` for the hash of text, options and revision."""
    drawer, written = Drawer(), list[str]()
    await new(mq, order, Shelf(DOCS[:100]), drawer).run(restart=False)
    drawer.before_write = lambda vectors: written.extend(vectors.ids)
    rows = [("doc-0", "another text"), *DOCS[1:102]]
    await new(mq, changed(order, mode="missing"), Shelf(rows), drawer).run(restart=False)
    assert written == ["doc-100", "doc-101"]
    written.clear()
    await new(mq, changed(order, mode="changed"), Shelf(rows), drawer).run(restart=False)
    assert written == ["doc-0"]
    assert decode(drawer.checkpoints["job"]).counts.skipped == 101


async def test_a_limit_is_exact_and_a_larger_one_goes_on(mq: embedmq.Client, order: Order) -> None:
    """It ends inside a block; the same limit has nothing to do; without one the rest follows."""
    drawer = Drawer()
    assert await new(mq, changed(order, limit=50), Shelf(DOCS), drawer).run(restart=False) == "limited"
    assert sorted(drawer.kept) == sorted(f"doc-{i}" for i in range(50))
    shelf = Shelf(DOCS)
    assert await new(mq, changed(order, limit=50), shelf, drawer).run(restart=False) == "limited"
    assert shelf.taken == 0
    assert await new(mq, changed(order, limit=70), Shelf(DOCS), drawer).run(restart=False) == "limited"
    assert len(drawer.kept) == 70
    assert await new(mq, order, Shelf(DOCS), drawer).run(restart=False) == "done"
    assert len(drawer.kept) == 300
    assert decode(drawer.checkpoints["job"]).counts.done == 300


async def test_other_settings_do_not_go_on_with_a_job(mq: embedmq.Client, order: Order) -> None:
    """The message names what differs and what to do; `restart` begins anew."""
    drawer = Drawer()
    await new(mq, changed(order, limit=50), Shelf(DOCS), drawer).run(restart=False)
    other = changed(order, columns=Columns(text="body"))
    with pytest.raises(CheckpointRefused, match=r"text: text, now body.*--name.*--restart"):
        await new(mq, other, Shelf(DOCS), drawer).run(restart=False)
    assert await new(mq, other, Shelf(DOCS), drawer).run(restart=True) == "done"


async def test_two_revisions_are_never_mixed(mq: embedmq.Client, order: Order) -> None:
    """Neither within a pass nor from one to the next."""
    drawer = Drawer()
    other = msgspec.structs.replace(SHAPE, revision="another")
    with pytest.raises(RevisionChanged, match="another"):
        await new(mq, order, Shelf(DOCS), drawer, shape=other).run(restart=False)
    assert not drawer.kept
    shelf = Shelf(DOCS)

    def stop(row: int) -> None:
        if row >= 200:
            raise Away("the shelf")

    shelf.before_block = stop
    with pytest.raises(Away):
        await new(mq, order, shelf, drawer).run(restart=False)
    with pytest.raises(RevisionChanged, match="--restart"):
        await new(mq, order, Shelf(DOCS), drawer, shape=other).run(restart=False)


async def test_a_job_stops_when_told_to_by_errors(mq: embedmq.Client, order: Order) -> None:
    """`stop` at the first, `max_failures` at one too many; what came before is kept."""
    rows = [*DOCS[:64], "broken", "broken", *DOCS[64:]]
    drawer = Drawer()
    with pytest.raises(JobStopped, match="row 64: broken"):
        await new(mq, changed(order, on_error="stop"), Shelf(rows), drawer).run(restart=False)
    assert len(drawer.kept) == 64
    with pytest.raises(JobStopped, match=r"2 rows have failed.*--max-failures"):
        await new(mq, changed(order, max_failures=1), Shelf(rows), drawer).run(restart=False)
    assert await new(mq, order, Shelf(rows), drawer).run(restart=False) == "done"
    assert len(failures(order)) == 2


async def test_a_paused_job_sends_nothing_and_has_committed(mq: embedmq.Client, order: Order) -> None:
    """What was under way is written and committed, then nothing moves until it goes on."""
    shelf, drawer = Shelf(DOCS), Drawer()
    job = new(mq, changed(order, commit_rows=1_000, commit_s=0.2), shelf, drawer)
    loop = asyncio.get_running_loop()

    def pause(row: int) -> None:
        if row == 96:
            loop.call_soon_threadsafe(job.going.clear)

    shelf.before_block = pause
    task = asyncio.create_task(job.run(restart=False))
    async with asyncio.timeout(60):
        while len(drawer.kept) < 96:  # noqa: ASYNC110  # another thread is waited for
            await asyncio.sleep(0.01)
    assert not task.done()
    assert not drawer.written
    job.going.set()
    assert await task == "done"
    assert len(drawer.kept) == 300


async def test_the_source_is_not_read_far_ahead(mq: embedmq.Client, order: Order) -> None:
    """A slow sink holds the source back: memory does not grow with the job."""
    rows: list[tuple[str, str] | str] = [(str(i), "text") for i in range(3_000)]
    shelf, drawer, ahead = Shelf(rows), Drawer(), list[int]()
    written = 0

    def note(vectors: Vectors) -> None:
        nonlocal written
        ahead.append(shelf.taken - written)
        written += len(vectors)

    drawer.before_write = note
    order = changed(order, rows_in_flight=100, commit_rows=100_000)
    assert await new(mq, order, shelf, drawer).run(restart=False) == "done"
    assert max(ahead) <= 100 + 12 * ROWS_PER_BLOCK


async def test_no_more_rows_go_out_than_the_ceiling_allows(mq: embedmq.Client, order: Order) -> None:
    """300 rows at 150 a second, of which the first second's worth may go at once."""
    began_s = time.monotonic()
    await new(mq, changed(order, rows_per_s=150.0), Shelf(DOCS), Drawer()).run(restart=False)
    assert time.monotonic() - began_s >= (300 - 10) / 150 - BURST_S
