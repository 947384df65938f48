"""Which rows are there? In the order of their numbers."""

from __future__ import annotations

from typing import Final

from tests.faults.rig import Row
from tests.faults.rows import deaths

ROWS: Final = (
    Row("1", deaths.killed_mid_batch, fast=True),
    Row("2", deaths.terminated_under_load, fast=True),
    Row("3", deaths.stopped_for_two_sessions),
)
