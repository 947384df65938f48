"""Who says what a worker serves? Its configuration, as often as it is read, and over that the orders of its fleet."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from functools import reduce

from msgspec import structs

from embedmq_worker.config import Config, Model
from embedmq_worker.control import Control
from embedmq_worker.engine.checkpoint import expect
from embedmq_worker.errors import WorkerError
from embedmq_worker.offload import in_thread
from embedmq_worker.orders import Orders, heed
from embedmq_worker.rollout import Rollout
from embedmq_worker.served import Models, overlay

Reread = Callable[[], Config]
"""Reads the file and the environment again; raises ConfigInvalid."""

log = logging.getLogger(__name__)


class Steering:
    """Takes in orders and SIGHUPs, one at a time, and has each followed before the next."""

    def __init__(
        self, config: Config, orders: Orders, control: Control, rollout: Rollout, reread: Reread, hung_up: asyncio.Event
    ) -> None:
        """`config` and `orders` are what is served now; `hung_up` is set at each SIGHUP."""
        self._config = config
        self._orders = orders
        self._control = control
        self._rollout = rollout
        self._reread = reread
        self._hung_up = hung_up
        self._one = asyncio.Lock()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as steering:
            steering.create_task(self._obey())
            steering.create_task(self._reload())

    async def _obey(self) -> None:
        while True:
            news = await self._control.next()
            async with self._one:
                self._orders = reduce(heed, news.records, Orders() if news.anew else self._orders)
                await self._follow()

    async def _reload(self) -> None:
        while True:
            await self._hung_up.wait()
            self._hung_up.clear()
            async with self._one:
                try:
                    found = await in_thread(self._read, "reload")
                except Exception as error:  # also what nobody thought of: the file may hold anything, and work goes on
                    told = str(error) if isinstance(error, WorkerError) else f"{type(error).__name__}: {error}"
                    log.warning("config_not_reloaded", extra={"error": told})
                    continue
                if keys := unlike(self._config, found):
                    log.warning("config_needs_restart", extra={"keys": keys})
                self._config = structs.replace(self._config, models=stay(self._config.models, found.models))
                log.info("config_reloaded", extra={"models": sorted(found.models)})
                await self._follow()

    async def _follow(self) -> None:
        await self._rollout.apply(overlay(self._config.models, self._orders), self._orders.offset)

    def _read(self) -> Config:
        """Read it, and look whether its checkpoints can be there at all, as at a start."""
        found = self._reread()
        for model in found.models.values():
            expect(model)
        return found


def on_hangup() -> asyncio.Event:
    """An event that SIGHUP sets, where there is such a signal; one that came while the process started counts."""
    hung_up = asyncio.Event()
    if hasattr(signal, "SIGHUP"):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    return hung_up


def unlike(before: Config, after: Config) -> list[str]:
    """Settings that differ and are not followed while the worker runs, as the file calls them."""
    keys: list[str] = []
    for section in Config.__struct_fields__:
        old, new = getattr(before, section), getattr(after, section)
        if section == "models" or old == new:
            continue
        fields: tuple[str, ...] = getattr(old, "__struct_fields__", ())
        keys += [f"{section}.{key}" for key in fields if getattr(old, key) != getattr(new, key)] or [section]
    return keys + [f"models.{name}.shared" for name in moved(before.models, after.models)]


def stay(before: Models, after: Models) -> dict[str, Model]:
    """The models of a file read anew, on the topics where they are: what lies on those would be read by nobody."""
    there = moved(before, after)
    return {
        name: structs.replace(model, shared=not model.shared) if name in there else model
        for name, model in after.items()
    }


def moved(before: Models, after: Models) -> list[str]:
    """Models that are to be asked on other topics than before."""
    return [name for name, model in after.items() if name in before and before[name].shared != model.shared]
