"""What does `embedmq top` look like? Writes `docs/top.svg`: a made-up fleet in a terminal of 100 columns."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Final

from embedmq.top.app import Top
from embedmq.top.live import Live
from embedmq.top.orders import Wish
from embedmq.top.view import View, look
from embedmq_schemas.catalogue import LaneLag, ModelStatus, WorkerStatus

PICTURE: Final = Path(__file__, "../../top.svg").resolve()
SIZE: Final = (100, 24)
NOON_UNIX_MS: Final = 1_750_000_000_000


def fleet() -> View:
    """Three workers, five models: one with a backlog, one that is loaded just now, one that fails."""
    minilm = ModelStatus(
        state="resident",
        pinned=True,
        lag={"interactive": _lag(14, 260, 0.2), "bulk": _lag(412_000, 118, 5_400)},
        items_per_s=3_120,
        tokens_per_s=371_000,
        batch_fill=0.97,
    )
    live = ModelStatus(
        state="resident",
        lag={"interactive": _lag(6, 40, 0.1), "bulk": _lag(0, 0, 0)},
        items_per_s=212,
        tokens_per_s=8_300,
        batch_fill=0.31,
    )
    coming = ModelStatus(state="loading", lag={"interactive": _lag(3, 90, 4), "bulk": _lag(0, 0, 0)})
    broken = ModelStatus(
        state="failing",
        paused=True,
        failed_per_s=0.2,
        lag={"interactive": _lag(0, 0, 0), "bulk": _lag(57, 120, 312)},
        error="its weights are torn",
    )
    absent = ModelStatus(state="absent", lag={"interactive": _lag(0, 0, 0), "bulk": _lag(0, 0, 0)})
    models = {"minilm": minilm, "bge-m3": live, "multilingual-e5-large-instruct": coming, "clip-text": absent}
    workers = [
        _worker("3f2a9c01d4e5", "gpu-1", models | {"reranker": broken}, 0.98, 9_200_000_000),
        _worker("9b7711aa02ff", "gpu-1", models | {"multilingual-e5-large-instruct": live}, 0.97, 8_100_000_000),
        _worker("c04d5be81177", "gpu-2", {"minilm": minilm, "bge-m3": live, "clip-text": absent}, 0.64, 3_400_000_000),
    ]
    return look("search", workers, NOON_UNIX_MS)


async def picture() -> str:
    """As SVG, without the web fonts that Textual would have a browser fetch."""
    view = fleet()

    async def read() -> View:
        return view

    async def tell(_wish: Wish, _model: str) -> int:
        return 0

    app = Top(Live(read, tell), 60.0)
    async with app.run_test(size=SIZE) as pilot:
        while not app.screen.query_one("#models").size or "3 workers" not in str(app.query_one("#title").render()):
            await pilot.pause(0.01)
        await pilot.pause()
        return re.sub(r"@font-face \{.*?\}\s*", "", app.export_screenshot(), flags=re.DOTALL)


def _lag(records: int, tokens_each: int, oldest_s: float) -> LaneLag:
    return LaneLag(records=records, tokens=records * tokens_each, oldest_s=oldest_s)


def _worker(id: str, host: str, models: dict[str, ModelStatus], busy: float, memory_bytes: int) -> WorkerStatus:
    return WorkerStatus(
        id=id,
        host=host,
        device="cuda",
        version="0.1.0",
        models=models,
        partitions={"interactive": 8, "bulk": 8, "retry": 2},
        busy=busy,
        memory_bytes=memory_bytes,
        memory_budget_bytes=16_000_000_000,
        in_flight_items=int(12_000 * busy),
        in_flight_bytes=int(9_000_000 * busy),
        max_in_flight_bytes=64_000_000,
    )


if __name__ == "__main__":
    PICTURE.write_text(asyncio.run(picture()), encoding="utf-8")
