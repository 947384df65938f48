"""What would a bulk job do, and how long would it take?"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from embedmq.bulk.adapters import make_sink, make_source
from embedmq.bulk.embedding import embed_rows
from embedmq.bulk.order import Order
from embedmq.bulk.patience import Patience
from embedmq.bulk.ports import Sink, Source
from embedmq.bulk.rows import Block, Shape
from embedmq.bulk.seen import Seen, latest
from embedmq.bulk.selection import Chosen, select
from embedmq.bulk.threads import Alone

if TYPE_CHECKING:
    from embedmq.client import Client

SAMPLE_ROWS = 256
"""Rows that are embedded to learn tokens and speed."""


class Estimate(Struct, frozen=True):
    """Rows that would be embedded, that the sink has, and that would fail before they are sent.

    Tokens and seconds are as the sample had them.
    """

    rows: int
    skipped: int
    failed: int
    tokens: int
    seconds: float
    sample_rows: int


class Survey:
    """Counts over a source, and a fair sample of its rows (Vitter's algorithm R, with a fixed seed)."""

    def __init__(self, order: Order, settings: bytes, max_text_bytes: int) -> None:
        self._order = order
        self._settings = settings
        self._max_text_bytes = max_text_bytes
        self._draw = random.Random(0)
        self.sample: list[Chosen] = []
        self.rows = self.skipped = self.failed = self.characters = 0

    def add(self, block: Block, seen: Seen | None, sink: Sink | None) -> None:
        """Count one block."""
        rows, repeated = (latest(block), []) if seen is None else seen.split(block)
        known = {} if sink is None else sink.hashes([row.id for row, _ in rows])
        selection = select(rows, self._order.mode, known, self._settings, self._max_text_bytes)
        self.skipped += selection.skipped
        self.failed += len(block.flaws) + len(repeated) + len(selection.flaws)
        for chosen in selection.chosen:
            if self.full:
                return
            self.rows += 1
            self.characters += len(chosen.row.text)
            if len(self.sample) < SAMPLE_ROWS:
                self.sample.append(chosen)
            elif (place := self._draw.randrange(self.rows)) < SAMPLE_ROWS:
                self.sample[place] = chosen

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return self._order.limit is not None and self.rows >= self._order.limit


def survey(source: Source, sink: Sink, order: Order, shape: Shape, counts: Survey) -> None:
    """Read a whole source, in one thread; nothing is written. A sink is opened that must be asked and is there.

    Raises SourceRefused, SinkRefused, Away.
    """
    try:
        source.open()
        there = sink.is_there()
        if there:
            sink.open(order.name, shape)
        asked = sink if there and order.mode != "all" else None
        seen = Seen() if source.repeats == "flaw" else None
        for block in source.read(None):
            counts.add(block, seen, asked)
            if counts.full:
                break
    finally:
        source.close()
        sink.close()


async def estimate(client: Client, order: Order, shape: Shape, max_text_bytes: int) -> Estimate:
    """Read the source, ask the sink what it has if that matters, and embed a sample."""
    counts = Survey(order, order.settings(shape.revision), max_text_bytes)
    source = make_source(order.source, order.columns)
    sink = make_sink(order.sink, order.columns)
    reading = Alone("survey")
    try:
        await reading.call(survey, source, sink, order, shape, counts)
    finally:
        reading.stop()
    if not counts.sample:
        return Estimate(0, counts.skipped, counts.failed, 0, 0.0, 0)
    began_s = time.monotonic()
    embedded = await embed_rows(client, order, counts.sample, Patience(order.patience_s))
    took_s = time.monotonic() - began_s
    characters = sum(len(chosen.row.text) for chosen in counts.sample)
    return Estimate(
        rows=counts.rows,
        skipped=counts.skipped,
        failed=counts.failed,
        tokens=round(embedded.tokens * counts.characters / max(1, characters)),
        seconds=took_s * counts.characters / max(1, characters),
        sample_rows=len(counts.sample),
    )
