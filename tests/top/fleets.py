"""Fleets as workers say they are, for the tests of the view."""

from __future__ import annotations

from embedmq.top.view import View, look
from embedmq_schemas.catalogue import LaneLag, ModelStatus, WorkerStatus

NOW_UNIX_MS = 1_750_000_000_000


def worker(id: str, **models: ModelStatus) -> WorkerStatus:
    """A worker of today, with these models; dashes are written as underscores."""
    return WorkerStatus(
        id=id,
        host="gpu-host-7",
        device="cuda",
        version="0.1.0",
        models={name.replace("_", "-"): status for name, status in models.items()},
        partitions={"interactive": 8, "bulk": 8, "retry": 2},
        busy=0.93,
        memory_bytes=6_400_000_000,
        memory_budget_bytes=64_000_000_000,
        in_flight_items=12_345,
    )


def busy_fleet() -> View:
    """Two workers; five models, of which one is paused, one comes, one is refused and one has work for days."""
    minilm = ModelStatus(
        state="resident",
        pinned=True,
        lag={"interactive": waits(12, 3_400, 1.5), "bulk": waits(1_200_000, 340_000_000, 7_300)},
        items_per_s=4_200.5,
        tokens_per_s=123_456,
        batch_fill=0.97,
    )
    large = ModelStatus(state="loading", lag={"bulk": waits(9, 900, 40.0)})
    broken = ModelStatus(state="failing", paused=True, failed_per_s=0.4, error="no such file: /models/broken")
    there = ModelStatus(state="resident", items_per_s=10, tokens_per_s=100, batch_fill=0.1)
    one = worker("3f2a9c01d4e5", minilm=minilm, multilingual_e5_large_instruct=large, broken=broken, tail=there)
    two = worker("9b7711aa02ff", minilm=minilm, multilingual_e5_large_instruct=there, tail=ModelStatus(state="absent"))
    refusing = WorkerStatus(id="0000deadbeef", host="old", models={"tail": there}, refused={"ghost": "not on its list"})
    return look("shop", [one, two, refusing], NOW_UNIX_MS)


def waits(records: int, tokens: int, oldest_s: float) -> LaneLag:
    """What waits on a lane."""
    return LaneLag(records=records, tokens=tokens, oldest_s=oldest_s)
