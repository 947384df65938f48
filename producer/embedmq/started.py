"""How does a client begin and end, and where may it be used?"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from types import TracebackType
from typing import Self, Unpack

from embedmq_schemas.environment import overrides

from embedmq.defaults import Defaults, check_names
from embedmq.session import Session
from embedmq.settings import Connections, Setup


class Started:
    """The life of a client: made from settings, started by `async with` in one event loop, ended with it."""

    def __init__(
        self,
        kafka: str,
        redis: str | None = None,
        *,
        prefix: str = "embedmq",
        max_in_flight_items: int = 1_024,
        defaults: Defaults | None = None,
        **settings: Unpack[Connections],
    ) -> None:
        """`kafka` is `host:port[,…]`, `redis` a URL; the rest is described at `embedmq.settings.Setup`.

        `defaults` are arguments for calls that do not pass them: `defaults={"tenant": "acme", "timeout_s": 5}`; see
        `embedmq.defaults.Defaults`.

        Raises:
            ValueError: a setting is wrong; the message names it.
        """
        own: dict[str, object] = {"prefix": prefix, "max_in_flight_items": max_in_flight_items, **settings}
        check_names(defaults or {})
        own |= defaults or {}
        self._prepare(Setup.of(kafka, redis, own))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """From `EMBEDMQ_KAFKA`, `EMBEDMQ_REDIS`, `EMBEDMQ_PREFIX` and `EMBEDMQ_KAFKA__*`, `EMBEDMQ_REDIS__*`,
        `EMBEDMQ_CLIENT__*`; without `EMBEDMQ_REDIS` it can only publish. The last has the defaults of calls too:
        `EMBEDMQ_CLIENT__TENANT`, `EMBEDMQ_CLIENT__TIMEOUT_S` and so on; outputs are separated by commas.
        """
        return cls.of(Setup.from_paths(overrides(os.environ if environ is None else environ)))

    @classmethod
    def of(cls, setup: Setup) -> Self:
        """From settings that were checked before."""
        client = cls.__new__(cls)
        client._prepare(setup)
        return client

    def _prepare(self, setup: Setup) -> None:
        self.setup = setup
        self.defaults = setup.defaults()
        self._session: Session | None = None
        self._pid = os.getpid()

    async def __aenter__(self) -> Self:
        """Connect; raises Unavailable."""
        if self._session is not None:
            raise RuntimeError("this client is started already: use one `async with` at a time")
        session = self._new_session()
        self._pid = os.getpid()
        await session.start()
        self._session = session
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._started(), None
        await session.stop()

    def _new_session(self) -> Session:
        return Session(self.setup)

    def _started(self) -> Session:
        """The session, where it may be used: RuntimeError says what to do elsewhere."""
        session = self._session
        if session is None:
            raise RuntimeError("this client is not started: use it inside `async with client:`")
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:  # none, as in a forked child that goes on within its parent's
            here = None
        if here is not session.loop:
            other = "process (it was forked)" if os.getpid() != self._pid else "event loop"
            raise RuntimeError(f"this client belongs to another {other}: start one of its own here")
        return session
