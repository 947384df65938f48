"""How does a row travel? read → select → embed → write → commit: one pass over a source, in this order, in this file.

Between reading and writing lies a queue of pieces, in the order of the source; their requests are on their way at the
same time. Pieces are written in order, so that one position says how far the sink is. What was written since the last
commit is embedded again when the job goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from embedmq.bulk.checkpoint import Checkpoint, Counts, State, decode, encode, proceed
from embedmq.bulk.embedding import Embedded, embed_rows, stack
from embedmq.bulk.errors import BulkError, JobStopped, RevisionChanged
from embedmq.bulk.failed import FailedRows
from embedmq.bulk.intake import Intake
from embedmq.bulk.order import Order
from embedmq.bulk.patience import Patience
from embedmq.bulk.ports import Sink, Source
from embedmq.bulk.rate import Rate
from embedmq.bulk.rows import MAX_BLOCK_ROWS, Block, Flaw, Position, Row, Shape
from embedmq.bulk.seen import Seen, latest
from embedmq.bulk.selection import Chosen, Selection, select
from embedmq.bulk.threads import Alone

if TYPE_CHECKING:
    from embedmq.client import Client

PIECES_AHEAD = 8
"""Blocks that may be embedded and not yet written, at least."""


class Piece(Struct, frozen=True):
    """What one block became: requests under way, rows that failed before, and where the source goes on.

    `after` is None where the limit of rows cut the block: the job would begin with this block again.
    """

    chosen: Sequence[Chosen]
    requests: Sequence[asyncio.Task[Embedded]]
    flaws: Sequence[Flaw]
    read: int
    skipped: int
    after: Position | None


@dataclass(slots=True)
class Reindex:
    """One pass: from where the checkpoint stands to the end of the source, or to the limit.

    `going` is cleared while the job is paused. `counts` are of the job so far, with what is not committed yet; `total`
    the rows of the source where that is known.
    """

    client: Client
    order: Order
    source: Source
    sink: Sink
    shape: Shape
    max_text_bytes: int
    patience: Patience
    going: asyncio.Event
    on_begin: Callable[[], None] = lambda: None
    """Called when the checkpoint was read."""
    reading: Alone = field(default_factory=lambda: Alone("source"))
    writing: Alone = field(default_factory=lambda: Alone("sink"))
    counts: Counts = field(default_factory=Counts)
    total: int | None = None
    begun: bool = False
    """Whether the checkpoint was read, …"""
    advanced: bool = False
    """… and one was written."""
    reached: Checkpoint = field(init=False)
    """What the next commit keeps."""
    failed: FailedRows = field(init=False)
    intake: Intake = field(init=False)
    _settings: bytes = b""
    _asked: int = 0
    _heard_s: float = 0.0
    _committed_s: float = 0.0
    _uncommitted: int = 0
    _ending: State = "done"

    def __post_init__(self) -> None:
        self.failed = FailedRows(self.order.failed, self.order.columns)
        self.intake = Intake(self.writing, self.sink)
        self._settings = self.order.settings(self.shape.revision)

    async def run(self, *, restart: bool) -> State:
        """Returns `done`, or `limited`. Raises BulkError; what was committed stays.

        `restart` forgets the checkpoint that is there.
        """
        async with contextlib.AsyncExitStack() as stack:
            for alone, close in ((self.writing, self.sink.close), (self.reading, self.source.close)):
                stack.callback(alone.stop)
                stack.push_async_callback(alone.call, close)
            self.failed.check()
            await self.reading.call(self.source.open)
            self.total = await self.reading.call(self.source.count)
            await self.writing.call(self.sink.open, self.order.name, self.shape)
            if restart:
                await self.writing.call(self.sink.clear)
            await self._begin()
            if self.reached.state == "running":
                await self._travel()
            return self.reached.state

    def quiet_s(self, now_s: float) -> float:
        """How long no answer has come, though one is waited for."""
        return now_s - self._heard_s if self._asked else 0.0

    async def _begin(self) -> None:
        order = self.order
        fresh = Checkpoint(
            definition=order.definition(),
            revision=self.shape.revision,
            limit=order.limit,
        )
        kept = await self.writing.call(self.sink.load)
        last = None if kept is None else decode(kept)
        start = proceed(last, fresh, order.mode)
        if last is not None and order.mode == "missing" and last.revision != self.shape.revision:
            message = (
                f"what is in the sink is of revision {last.revision!r}, {order.model} is {self.shape.revision!r} now"
            )
            raise RevisionChanged(f"{message}: --changed-only replaces it")
        if start.state == "running" and start.revision != self.shape.revision:
            message = f"{order.model} is served in revision {self.shape.revision!r}, the job was begun with"
            raise RevisionChanged(f"{message} {start.revision!r}: start over with --restart, into an empty sink")
        self.counts = start.counts
        self.reached = msgspec.structs.replace(start, limit=order.limit)
        self.begun = True
        self.on_begin()

    async def _travel(self) -> None:
        """Run the stages. Where they are ended from outside, what was written in order is committed first."""
        self.failed.open(self.reached.failed_bytes)
        self._committed_s = time.monotonic()
        ahead = max(PIECES_AHEAD, self.order.rows_in_flight // MAX_BLOCK_ROWS)
        pieces: asyncio.Queue[Piece | None] = asyncio.Queue(ahead)
        try:
            async with asyncio.TaskGroup() as stages:
                stages.create_task(self._read(stages, pieces))
                stages.create_task(self._write(pieces))
        except BaseExceptionGroup as errors:
            if isinstance(errors.exceptions[0], JobStopped):
                await self._save()
            raise errors.exceptions[0] from None
        except asyncio.CancelledError:
            await self._save()
            raise
        finally:
            self.failed.close()

    async def _read(self, stages: asyncio.TaskGroup, pieces: asyncio.Queue[Piece | None]) -> None:
        """Read blocks, select their rows and send them, as many as may be in flight."""
        room = asyncio.Semaphore(max(1, self.order.rows_in_flight // self.order.rows_per_request))
        rate = Rate(self.order.rows_per_s)
        left = None if self.order.limit is None else max(0, self.order.limit - self.reached.counts.done)
        async with contextlib.aclosing(self._blocks()) as blocks:
            async for block, rows, repeated in blocks:
                selection = await self._select(rows)
                chosen = selection.chosen[:left]
                cut = len(chosen) < len(selection.chosen)
                requests = [
                    stages.create_task(self._embed(part, room)) async for part in self._admit(chosen, room, rate)
                ]
                flaws = [*block.flaws, *repeated, *selection.flaws]
                after = None if cut else block.after
                await pieces.put(Piece(chosen, requests, flaws, len(block.rows), selection.skipped, after))
                left = None if left is None else left - len(chosen)
                if left == 0:
                    self._ending = "limited"
                    break
        await pieces.put(None)

    async def _blocks(self) -> AsyncGenerator[tuple[Block, Sequence[tuple[Row, str]], Sequence[Flaw]]]:
        """The blocks behind the checkpoint: of each its rows with their places, less those whose ids came before."""
        seen = await self.reading.call(Seen)
        blocks = self.source.read(self.reached.position)
        try:
            if self.source.repeats == "flaw" and self.reached.counts.read:
                await self.reading.call(seen.fill, self.source.read(None), self.reached.counts.read)
            while (block := await self.reading.call(next, blocks, None)) is not None:
                if self.source.repeats == "flaw":
                    yield block, *await self.reading.call(seen.split, block)
                else:
                    yield block, latest(block), ()
        finally:
            await self.reading.call(seen.close)
            if isinstance(blocks, Generator):
                with contextlib.suppress(BulkError):  # a connection that is gone cannot be left in good order
                    await self.reading.call(blocks.close)

    async def _select(self, rows: Sequence[tuple[Row, str]]) -> Selection:
        known: Mapping[str, bytes | None] = {}
        if self.order.mode != "all" and rows:
            known = await self.writing.call(self.sink.hashes, [row.id for row, _ in rows])
        return select(rows, self.order.mode, known, self._settings, self.max_text_bytes)

    async def _admit(
        self, chosen: Sequence[Chosen], room: asyncio.Semaphore, rate: Rate
    ) -> AsyncIterator[Sequence[Chosen]]:
        """The rows of one request after the other, each when it may go."""
        for start in range(0, len(chosen), self.order.rows_per_request):
            part = chosen[start : start + self.order.rows_per_request]
            await self.going.wait()
            await room.acquire()
            await asyncio.sleep(rate.delay_s(len(part), time.monotonic()))
            yield part

    async def _embed(self, rows: Sequence[Chosen], room: asyncio.Semaphore) -> Embedded:
        if not self._asked:
            self._heard_s = time.monotonic()
        self._asked += 1
        try:
            embedded = await embed_rows(self.client, self.order, rows, self.patience)
        finally:
            room.release()
            self._asked -= 1
            self._heard_s = time.monotonic()
        if embedded.revision not in (None, self.shape.revision):
            message = f"{self.order.model} was revision {self.shape.revision!r} when the job began"
            raise RevisionChanged(f"{message}, and is {embedded.revision!r} now: start over with --restart")
        return embedded

    async def _write(self, pieces: asyncio.Queue[Piece | None]) -> None:
        """Give the sink what has its vectors, in order, and commit now and then; at the end for good."""
        while (piece := await self._next(pieces)) is not None:
            answers = [await request for request in piece.requests]
            flaws = [*piece.flaws, *(flaw for answer in answers for flaw in answer.flaws)]
            if flaws and self.order.on_error == "stop":
                raise JobStopped(f"{flaws[0].where}: {flaws[0].message} (--on-error stop)")
            vectors = stack([part for answer in answers for part in answer.vectors])
            refused = [] if vectors is None else await self.intake.put(vectors, piece.chosen)
            flaws += refused
            self.failed.write(flaws)
            done = 0 if vectors is None else len(vectors) - len(refused)
            tokens = sum(answer.tokens for answer in answers)
            more = Counts(read=piece.read, done=done, failed=len(flaws), skipped=piece.skipped, tokens=tokens)
            await self._reach(piece.after, more)
        await self._commit(self._ending)

    async def _next(self, pieces: asyncio.Queue[Piece | None]) -> Piece | None:
        """The next piece. While none comes (a pause, something away), what has been written is committed."""
        while self._uncommitted:
            try:
                async with asyncio.timeout(self.order.commit_s):
                    return await pieces.get()
            except TimeoutError:
                await self._commit("running")
        return await pieces.get()

    async def _reach(self, after: Position | None, more: Counts) -> None:
        """Note that the sink has one more piece, and commit when it is time."""
        self.counts = self.counts.plus(more)
        if self.counts.failed > self.order.max_failures:
            raise JobStopped(f"{self.counts.failed} rows have failed, more than --max-failures: see {self.failed.path}")
        if after is None:
            return
        self.reached = msgspec.structs.replace(
            self.reached, position=after, counts=self.counts, failed_bytes=self.failed.length_bytes
        )
        self._uncommitted += more.done
        due = time.monotonic() >= self._committed_s + self.order.commit_s
        if due or self._uncommitted >= self.order.commit_rows:
            await self._commit("running")

    async def _save(self) -> None:
        """Commit what was written, if that can be done: a sink that has failed may have lost some of it, and whoever
        goes on begins at the last commit.
        """
        if not self.writing.failed:
            with contextlib.suppress(BulkError):  # what ends the job is said, not that this came too late
                await self._commit("running")

    async def _commit(self, state: State) -> None:
        """Have the sink make what was written durable, and keep the checkpoint behind it."""
        self.failed.sync()
        self.reached = msgspec.structs.replace(self.reached, state=state)
        await self.writing.call(self.sink.commit, encode(self.reached))
        self._committed_s, self._uncommitted = time.monotonic(), 0
        self.advanced = True
