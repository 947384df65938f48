"""The fast selection of the fault suite, seeded, on the brokers that all tests share."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from embedmq_local.stack import Stack

from tests.faults.planting import PLANTS
from tests.faults.rig import Rig, Row, play
from tests.faults.rows import ROWS

FAST = [row for row in ROWS if row.fast]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("row", FAST, ids=[f"{row.name}: {row.claim}" for row in FAST])
async def test_nothing_is_lost(row: Row, stack: Stack, tmp_path: Path) -> None:
    """Whatever dies, every accepted request is answered once, and rightly. `SEED` replays what failed."""
    seed = int(os.environ.get("SEED") or random.randrange(10**6))
    figures = await play(row, Rig(row.name, stack, tmp_path, seed, rounds=1, fast=True))
    assert figures.ok, "\n".join([f"SEED={seed}", *figures.complaints()])


@pytest.mark.timeout(300)
async def test_a_planted_bug_turns_a_row_red(stack: Stack, tmp_path: Path) -> None:
    """A worker that commits before it delivers is found out."""
    bug = "commit_before_deliver"
    (row,) = (row for row in ROWS if row.name == PLANTS[bug])
    figures = await play(row, Rig(row.name, stack, tmp_path, seed=1, rounds=1, fast=True, plant=bug))
    assert figures.problems
