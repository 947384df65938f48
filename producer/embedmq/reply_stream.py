"""How do answers come back to the process that asked?"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from embedmq_schemas.away import TRANSPORT_ERRORS
from embedmq_schemas.codec import Undecodable, split_results
from embedmq_schemas.connection import RedisConnection
from embedmq_schemas.names import STREAM_FIELD
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from embedmq.errors import Unavailable
from embedmq.patience import patience
from embedmq.pending import Pending
from embedmq.resend import Resend
from embedmq.settings import Setup
from embedmq.store import unavailable

BLOCK_MS = 5_000
"""How long one read waits for an answer; also how soon a connection that died silently is noticed."""
ANSWER_GRACE_S = 2.0
"""How much later than `BLOCK_MS` the answer to a read may come before a last look, see `patience`; then the connection
counts as dead.
"""
ENTRIES_PER_READ = 16  # of up to 1 MiB each
TRIM_PERIOD_S = 1.0
BACKOFF_FIRST_S, BACKOFF_LAST_S = 0.05, 2.0
START = b"0"

_LOG = logging.getLogger(__name__)

_Entries = Sequence[tuple[bytes, Sequence[bytes]]]


class ReplyStream:
    """Reads the stream of one client on a connection of its own, and hands each answer to whoever waits for it.

    After a lost connection it reads from the start again, since what the ids mean may not have survived; answers that
    were handed over already find nobody waiting. What was read is trimmed about once a second, with the next read.
    """

    def __init__(self, redis: RedisConnection, setup: Setup, stream: str, pending: Pending, resend: Resend) -> None:
        self._setup = setup
        self._url = redis.url
        self._stream = stream
        self._pending = pending
        self._resend = resend
        self._last = START
        self._trimmed = START
        self._trimmed_at = 0.0
        self._lost: Unavailable | None = None
        self._away_timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._pool = ConnectionPool.from_url(
            redis.url,
            **redis.options(),
            # redis-py's own limits and retries would end and repeat a blocking read; ours is around it.
            socket_timeout=None,
            socket_connect_timeout=setup.connect_timeout_s,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )

    async def start(self) -> None:
        """Begin to read; raises Unavailable when Redis does not let us in."""
        connection = await self._connect()
        self._task = asyncio.create_task(self._run(connection))

    async def stop(self) -> None:
        """End the read. The connection is thrown away with it, so nothing can be left out of step."""
        self._cancel_timer()
        self._resend.stop()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def check(self) -> None:
        """Raises Unavailable when Redis has been away for longer than `redis_timeout_s`."""
        if self._lost is not None:
            raise Unavailable(*self._lost.args)

    async def _run(self, connection: AbstractConnection) -> None:
        backoff_s = BACKOFF_FIRST_S
        while True:
            try:
                await self._read_on(connection)
            except (RedisError, *TRANSPORT_ERRORS) as error:
                _LOG.warning("lost the connection to Redis for replies: %s", error)
                self._went_away(error)
            finally:
                await connection.disconnect(nowait=True)
            while True:
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1.5))
                try:
                    connection = await self._connect()
                except Unavailable as error:
                    _LOG.info("still no connection to Redis for replies: %s", error)
                    backoff_s = min(2 * backoff_s, BACKOFF_LAST_S)
                else:
                    break
            backoff_s = BACKOFF_FIRST_S
            self._came_back()

    async def _connect(self) -> AbstractConnection:
        make: Callable[[], AbstractConnection] = self._pool.make_connection
        connection = make()
        connect: Callable[[], Awaitable[None]] = connection.connect
        try:
            async with asyncio.timeout(self._setup.connect_timeout_s):
                await connect()
                await connection.send_command("XLEN", self._stream)  # may we read it, and is the server ready?
                await connection.read_response()
        except (RedisError, *TRANSPORT_ERRORS) as error:
            await connection.disconnect(nowait=True)
            raise unavailable(self._url, error) from error
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _read_on(self, connection: AbstractConnection) -> None:
        loop = asyncio.get_running_loop()
        limit_s = BLOCK_MS / 1000 + ANSWER_GRACE_S
        read = ("XREAD", "COUNT", ENTRIES_PER_READ, "BLOCK", BLOCK_MS, "STREAMS", self._stream)
        while True:
            trim = self._last != self._trimmed and loop.time() >= self._trimmed_at + TRIM_PERIOD_S
            async with patience(limit_s):
                if trim:
                    await self._trim(connection)
                    self._trimmed_at = loop.time()
                await connection.send_command(*read, self._last)
                answer = await connection.read_response()
            if answer:
                self._hand_over(cast("_Entries", answer[0][1]))

    async def _trim(self, connection: AbstractConnection) -> None:
        """Throw away what was read. A Redis that takes no writes now, as a replica, can be read all the same."""
        await connection.send_command("XTRIM", self._stream, "MINID", _after(self._last))
        try:
            await connection.read_response()
        except NoPermissionError:
            raise
        except ResponseError as error:
            _LOG.info("could not trim what was read of the reply stream: %s", error)
        else:
            self._trimmed = self._last

    def _hand_over(self, entries: _Entries) -> None:
        for number, fields in entries:
            for name, value in zip(fields[::2], fields[1::2], strict=True):
                if name != STREAM_FIELD:
                    continue
                try:
                    results = split_results(value)
                except Undecodable as error:
                    _LOG.warning("passed over an entry of the reply stream that is none: %s", error)
                    continue
                for result in results:
                    self._pending.resolve(result)
            self._last = number

    def _went_away(self, error: BaseException) -> None:
        self._last = self._trimmed = START
        self._resend.stop()
        if isinstance(error, (AuthenticationError, NoPermissionError)):
            self._end_waits(unavailable(self._url, error))
        elif self._away_timer is None:
            lost = unavailable(self._url, error)
            loop = asyncio.get_running_loop()
            self._away_timer = loop.call_later(self._setup.redis_timeout_s, self._end_waits, lost)

    def _end_waits(self, error: Unavailable) -> None:
        self._lost = error
        self._pending.fail_all(lambda request: Unavailable(f"request {request}: {error}"))

    def _came_back(self) -> None:
        self._cancel_timer()
        self._lost = None
        self._resend.back()

    def _cancel_timer(self) -> None:
        if self._away_timer is not None:
            self._away_timer.cancel()
            self._away_timer = None


def _after(number: bytes) -> bytes:
    """The smallest id after `number`: `XTRIM MINID` keeps the id that it is given."""
    milliseconds, _, sequence = number.partition(b"-")
    return milliseconds + b"-" + str(int(sequence) + 1).encode()
