"""`python -m tests.faults [ROW…] [--fast] [--plant BUG]`: the fault suite. `SEED=…` replays, `ROUNDS=…` repeats.

Prints a line a row and a summary, writes `build/faults.json`, and ends with 1 when a row fails, or when a planted bug
goes unseen.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.faults.figures import HEAD, Figures, total
from tests.faults.planting import PLANTS
from tests.faults.rig import Cluster, Rig, Row, choose, play
from tests.faults.rows import ROWS

REPORT: Final = Path(__file__).parents[2] / "build" / "faults.json"
AT_A_TIME: Final = 3
"""Rows on the same Kafka that may run side by side: they mostly wait for sessions to end."""


class Suite:
    """One run: a seed, rounds, and the rows' figures as they come."""

    def __init__(
        self, folder: Path, seed: int, rounds: int, plant: str = "", *, fast: bool = False, quiet: bool = False
    ) -> None:
        self.figures: list[Figures] = []
        self._folder = folder
        self._seed = seed
        self._rounds = rounds
        self._plant = plant
        self._fast = fast
        self._quiet = quiet

    async def run(self, rows: Sequence[Row]) -> None:
        """Those that share one broker side by side, the others one by one."""
        for brokers in (1, 3):
            chosen = [row for row in rows if row.brokers == brokers]
            if chosen:
                async with Cluster(brokers) as cluster:
                    room = asyncio.Semaphore(AT_A_TIME)
                    await asyncio.gather(*(self._play(row, cluster, room) for row in chosen if not row.alone))
                    for row in chosen:
                        if row.alone:
                            await self._play(row, cluster, room)

    async def _play(self, row: Row, cluster: Cluster, room: asyncio.Semaphore) -> None:
        async with room:
            rig = Rig(
                row.name,
                cluster.stack,
                self._folder,
                self._seed,
                rounds=self._rounds,
                fast=self._fast,
                plant=self._plant,
                cluster=cluster,
            )
            figures = await play(row, rig)
        self.figures.append(figures)
        if not self._quiet:
            print(figures.line(), flush=True)
            for complaint in figures.complaints():
                print(f"        {complaint}", flush=True)


async def unseen(folder: Path, seed: int, names: Sequence[str]) -> list[str]:
    """Plant each bug and run one cheap row against it; those that the row did not notice."""
    found: list[str] = []
    for name in names:
        suite = Suite(folder, seed, 1, name, fast=True, quiet=True)
        await suite.run(choose(ROWS, [PLANTS[name]], fast=False))
        (figures,) = suite.figures
        red = bool(figures.problems)
        why = figures.problems[0] if red else "nobody noticed"
        print(f"planted {name}: row {figures.row} is {'red, as it must be' if red else 'GREEN'} ({why})", flush=True)
        found += [] if red else [name]
    return found


def report(rows: Sequence[Figures], seed: int, missed: Sequence[str], planted: Sequence[str]) -> dict[str, Any]:
    """Write `build/faults.json`; returns its summary."""
    summary = total(rows, seed) | {"planted_bugs": list(planted), "planted_bugs_unseen": list(missed)}
    REPORT.parent.mkdir(exist_ok=True)
    everything = {**summary, "rows": [msgspec.to_builtins(row) for row in rows]}
    REPORT.write_text(json.dumps(everything, indent=1) + "\n")
    return summary


async def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW")
    parser.add_argument("--fast", action="store_true", help="the selection that `make test` runs")
    parser.add_argument("--plant", choices=sorted(PLANTS), help="plant this bug only; its row has to turn red")
    options = parser.parse_args()
    seed = int(os.environ.get("SEED") or random.randrange(10**6))
    rounds = int(os.environ.get("ROUNDS") or 1)
    rows = choose(ROWS, options.rows, fast=options.fast)
    print(f"SEED={seed} ROUNDS={rounds}", flush=True)
    for library in ("aiokafka", "embedmq"):  # what they say about faults is what the rows are about
        logging.getLogger(library).setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="embedmq-faults-") as name:
        folder = Path(name)
        if options.plant:
            return 1 if await unseen(folder, seed, [options.plant]) else 0
        print(HEAD, flush=True)
        suite = Suite(folder, seed, rounds, fast=options.fast)
        await suite.run(rows)
        planted = [] if options.fast or options.rows else sorted(PLANTS)
        missed = await unseen(folder, seed, planted)
    summary = report(suite.figures, seed, missed, planted)
    print(json.dumps(summary, indent=1))
    return 1 if missed or summary["rows_failed"] else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
