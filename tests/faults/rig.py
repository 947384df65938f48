"""What does a row get? Kafka with one broker or three, sites on it, a seed of its own, and a place for its figures."""

from __future__ import annotations

import asyncio
import random
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Self

from embedmq_local.stack import Stack
from msgspec import Struct

from tests.faults.figures import Figures
from tests.faults.proxy import Proxy
from tests.faults.site import Site

LIMIT_S: Final = 240.0
"""For one round of one row."""


class Cluster:
    """Brokers with a proxy in front of each, for those who are to meet a bad network."""

    def __init__(self, brokers: int) -> None:
        self.fronts = [Proxy() for _ in range(brokers)]
        self.stack = Stack(brokers=brokers, fronts=[front.address for front in self.fronts])
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.stack.__enter__)
        self._stack.push_async_callback(asyncio.to_thread, self.stack.__exit__, None, None, None)
        for front, broker in zip(self.fronts, self.stack.brokers, strict=True):
            front.target = str(broker.behind)
            await self._stack.enter_async_context(front)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def through_fronts(self) -> str:
        """Bootstrap addresses of those who go through the proxies."""
        return ",".join(front.address for front in self.fronts)


class Rig:
    """One row's."""

    def __init__(
        self,
        row: str,
        stack: Stack,
        folder: Path,
        seed: int,
        *,
        rounds: int,
        fast: bool = False,
        plant: str = "",
        cluster: Cluster | None = None,
    ) -> None:
        self.figures = Figures(row=row)
        self.rng = random.Random(f"{seed}/{row}")
        self.rounds = rounds
        self.fast = fast
        self.stack = stack
        self.plant = plant
        self._folder = folder
        self._cluster = cluster

    @property
    def cluster(self) -> Cluster:
        """The brokers with their proxies; only rows that are not part of the fast selection may ask."""
        assert self._cluster is not None
        return self._cluster

    def site(self, **settings: Any) -> Site:
        """A site on this rig's Kafka."""
        return Site(self.stack, self._folder, self.rng, self.figures, plant=self.plant, **settings)


class Row(Struct, frozen=True):
    """One row of the suite: its docstring's first line is the claim."""

    name: str
    run: Callable[[Rig], Awaitable[None]]
    brokers: int = 1
    alone: bool = False
    """It strikes what other rows need, or measures."""
    fast: bool = False

    @property
    def claim(self) -> str:
        """What it tries to disprove."""
        return (self.run.__doc__ or "").strip().partition("\n")[0]


async def play(row: Row, rig: Rig) -> Figures:
    """Run one row; whatever it raises is a problem of the row."""
    start_s, figures = time.monotonic(), rig.figures
    figures.claim = row.claim
    try:
        async with asyncio.timeout(LIMIT_S * rig.rounds):
            await row.run(rig)
    except Exception as error:
        figures.problems.append(f"{type(error).__name__}: {error}")
        figures.problems.extend(traceback.format_exc().splitlines()[-4:])
    figures.seconds = round(time.monotonic() - start_s, 1)
    return figures


def choose(rows: Sequence[Row], names: Sequence[str], *, fast: bool) -> list[Row]:
    """The rows that are named (or all), the fast ones among them if wished."""
    unknown = set(names) - {row.name for row in rows}
    if unknown:
        raise SystemExit(f"no row {', '.join(sorted(unknown))}: there are {', '.join(row.name for row in rows)}")
    return [row for row in rows if (not names or row.name in names) and (row.fast or not fast)]
