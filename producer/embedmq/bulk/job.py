"""How does one process run a bulk job, from taking it to its last word?"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from embedmq.bulk.adapters import make_sink, make_source
from embedmq.bulk.board import HOLDER_TTL_S, KEEP_PERIOD_S, Board
from embedmq.bulk.checkpoint import Counts
from embedmq.bulk.errors import Away, JobStopped
from embedmq.bulk.holding import is_gone, new_token, who
from embedmq.bulk.order import Order
from embedmq.bulk.pace import Pace
from embedmq.bulk.patience import Patience
from embedmq.bulk.ports import Sink, Source
from embedmq.bulk.reindex import Reindex
from embedmq.bulk.rows import Shape
from embedmq.bulk.shape import look
from embedmq.bulk.silence import QUIET_S, Silence, workers_of
from embedmq.bulk.status import JobStatus, State
from embedmq.errors import Unavailable

if TYPE_CHECKING:
    from embedmq.client import Client

BEAT_S = 1.0
SAY_AFTER_S = 5.0
TAKE_WAIT_S = HOLDER_TTL_S + 5.0
"""Longer than a process that was killed still holds its job."""
COMPLETE = "it was complete before: --changed-only embeds what has changed, --restart every row again"


class Job:
    """Holds a job, passes over its source until that is done, and says on the board and to `tell` how it is."""

    def __init__(
        self,
        client: Client,
        order: Order,
        board: Board,
        tell: Callable[[JobStatus], None],
        say: Callable[[str], None] = lambda text: None,  # noqa: ARG005  # nobody listens
    ) -> None:
        self._client = client
        self._order = order
        self._board = board
        self._tell = tell
        self._say = say
        self._token = new_token()
        self._who = who()
        self._going = asyncio.Event()
        self._going.set()
        self._pace = Pace()
        self._fleet = Patience(order.patience_s)
        self._ends = Patience(order.patience_s)
        self._silence = Silence(order.model, order.patience_s)
        self._pass: Reindex | None = None
        self._called_off = False
        self._has_begun = False
        self._counts = Counts()
        self._started_unix_s = time.time()

    async def run(self) -> JobStatus:
        """Returns how it ended: `done`, where a limit may say so in its message.

        Raises:
            BulkError: what was committed stays; JobStopped also where somebody called it off. EmbedMQError: of the
            fleet. CancelledError: after a commit of what was written.
        """
        source = make_source(self._order.source, self._order.columns)  # an address that nothing reads is told first
        sink = make_sink(self._order.sink, self._order.columns)
        shape, max_text_bytes = await self._look()
        await self._board.take(self._order.name, self._token, self._who, wait_s=TAKE_WAIT_S, is_gone=is_gone)
        work = asyncio.create_task(self._work(source, sink, shape, max_text_bytes))
        beat = asyncio.create_task(self._beat(work))
        state: State = "failed"
        message = ""
        try:
            await asyncio.wait({work, beat}, return_when=asyncio.FIRST_COMPLETED)
            message = (work if work.done() else beat).result()
            state = "done"
        except asyncio.CancelledError:
            state = "cancelled" if self._called_off else "interrupted"
            if self._called_off:
                raise JobStopped(f"job {self._order.name} was called off: {self._order.to_go_on}") from None
            raise
        except Exception as error:
            message = str(error)
            raise
        finally:
            await self._end(work, beat, state, message)
        return self._status(state, message)

    async def _look(self) -> tuple[Shape, int]:
        waiting = f"embedmq: job {self._order.name} waits for a first answer from {self._order.model}"
        saying = asyncio.get_running_loop().call_later(SAY_AFTER_S, self._say, waiting)
        try:
            return await look(self._client, self._order)
        finally:
            saying.cancel()

    async def _work(self, source: Source, sink: Sink, shape: Shape, max_text_bytes: int) -> str:
        """Pass over the source; from the last commit again when source or sink were away. Returns what to say of it."""
        restart = self._order.restart
        while True:
            order = self._order
            self._pass = Reindex(
                client=self._client,
                order=order,
                source=source,
                sink=sink,
                shape=shape,
                max_text_bytes=max_text_bytes,
                patience=self._fleet,
                going=self._going,
                on_begin=lambda: self._tell(self._status(self._state())),
            )
            try:
                state = await self._pass.run(restart=restart)
            except Away as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():  # 3.11 may report the failure of a stage instead
                    raise asyncio.CancelledError from None
                restart = restart and not self._pass.begun
                if self._pass.advanced:
                    self._ends.well()
                await self._ends.wait(error)
            else:
                if state == "limited":
                    return f"the limit of {order.limit} rows is reached"
                return "" if self._pass.advanced else COMPLETE

    async def _beat(self, work: asyncio.Task[str]) -> str:
        """Keep the job, obey wishes, say how it is; while Redis is away, only here. Raises JobTaken, Unserved."""
        kept_s = 0.0
        while True:
            try:
                if time.monotonic() >= kept_s + KEEP_PERIOD_S:
                    if not await self._board.keep(self._order.name, self._token):
                        await self._board.take(self._order.name, self._token, self._who)
                    kept_s = time.monotonic()
                    await self._listen()
                await self._obey(work)
                if self._begun:
                    await self._board.post(self._status(self._state()))
            except Unavailable:
                pass  # the work itself notices, and waits
            if self._begun:
                self._tell(self._status(self._state()))
            await asyncio.sleep(BEAT_S)

    async def _listen(self) -> None:
        """Find out why no answer comes: raises Unserved when no worker has served the model for too long."""
        now_s, asking = time.monotonic(), self._pass
        if asking is None or asking.quiet_s(now_s) < QUIET_S:
            self._silence.heard()
        elif await workers_of(self._client, self._order.model):
            self._silence.busy(f"{self._order.model} has other work: no answer for {asking.quiet_s(now_s):.0f} s")
        else:
            self._silence.alone(now_s)

    async def _obey(self, work: asyncio.Task[str]) -> None:
        wish = await self._board.wish(self._order.name)
        if wish is None:
            return
        await self._board.clear_wish(self._order.name, wish)
        if wish == "pause":
            self._going.clear()
        elif wish == "resume":
            self._going.set()
        else:
            self._called_off = True
            work.cancel()

    async def _end(self, work: asyncio.Task[str], beat: asyncio.Task[str], state: State, message: str) -> None:
        """Let the work commit what it has, say the last word, and let go of the job."""
        work.cancel()
        beat.cancel()
        await asyncio.wait({work, beat})
        status = self._status(state, message)
        try:
            if self._begun:
                await self._board.post(status)
            await self._board.leave(self._order.name, self._token)
        except Unavailable:
            pass  # nobody can be told; the hold ends by itself
        if self._begun:
            self._tell(status)

    @property
    def _begun(self) -> bool:
        """Whether there is anything to say: the checkpoint was read, or something is waited for."""
        if self._pass is not None and self._pass.begun:
            self._counts = self._pass.counts
            self._has_begun = True
        return self._has_begun or bool(self._ends.waiting_for)

    def _state(self) -> State:
        if not self._going.is_set():
            return "paused"
        return "waiting" if self._waiting_for() else "running"

    def _waiting_for(self) -> str:
        """Why nothing moves; a source and a sink that could be opened are not away."""
        if self._pass is not None and self._pass.advanced:
            self._ends.well()
        away = "" if self._pass is not None and self._pass.begun else self._ends.waiting_for
        return away or self._hanging() or self._fleet.waiting_for or self._silence.waiting_for

    def _hanging(self) -> str:
        ends = {} if self._pass is None else {"source": self._pass.reading, "sink": self._pass.writing}
        for name, end in ends.items():
            if end.busy_s() >= QUIET_S:
                return f"the {name} has not answered for {end.busy_s():.0f} s"
        return ""

    def _status(self, state: State, message: str = "") -> JobStatus:
        now_s = time.monotonic()
        begun, counts = self._begun, self._counts
        if begun:
            self._pace.note(now_s, counts.done + counts.failed + counts.skipped)
        total = self._total()
        return JobStatus(
            name=self._order.name,
            state=state,
            model=self._order.model,
            source=self._order.source,
            sink=self._order.sink,
            rows_done=counts.done,
            rows_failed=counts.failed,
            rows_skipped=counts.skipped,
            rows_total=total,
            tokens=counts.tokens,
            rate_per_s=self._pace.rate_per_s(now_s),
            left_s=self._pace.left_s(now_s, total),
            message=message or ("" if state == "done" else self._waiting_for()),
            host=socket.gethostname(),
            pid=os.getpid(),
            started_unix_s=self._started_unix_s,
            updated_unix_s=time.time(),
        )

    def _total(self) -> int | None:
        total = None if self._pass is None else self._pass.total
        limit = self._order.limit
        if limit is None or self._order.mode != "all":
            return total
        return limit if total is None else min(limit, total)
