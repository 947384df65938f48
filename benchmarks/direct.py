"""How fast is our engine with no queue around it?"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from embedmq_worker.choose import Budget
from embedmq_worker.config import Model
from embedmq_worker.engine.load import load
from embedmq_worker.engine.seam import Ask, Encoded, Engine, Prepared

from benchmarks.fill import fill, usual
from benchmarks.work import Work

Encode = Callable[[Engine, Sequence[Ask], Budget], None]
TOKENIZER_THREADS, IN_FLIGHT, CHUNK = 4, 2, 256


class Direct:
    """A loaded engine; called with work, it says how many seconds that took."""

    def __init__(self, model: Model, encode: Encode | None = None, device: str = "auto") -> None:
        self.engine = load(model, device)
        self.limit = usual(self.engine.facts.tokens_per_s)
        self._encode = encode or in_line

    def __call__(self, work: Work[Budget | None]) -> float:
        """Encode all calls, one after the other; the setting is how much goes into one batch."""
        start_s = time.perf_counter()
        for call in work.calls:
            self._encode(self.engine, call, work.setting or self.limit)
        return time.perf_counter() - start_s


def in_line(engine: Engine, asks: Sequence[Ask], limit: Budget) -> None:
    """Tokenize all, then encode one batch after the other: on a CPU, which does one thing at a time anyway."""
    for batch in fill(zip(asks, engine.prepare(asks), strict=True), limit):
        engine.launch(batch).collect()


def overlapped(engine: Engine, asks: Sequence[Ask], limit: Budget) -> None:
    """As a worker does: tokenize in threads, launch in this one, collect in another, two batches on the device."""
    with ThreadPoolExecutor(TOKENIZER_THREADS) as cutters, ThreadPoolExecutor(1) as collector:
        running: deque[Future[list[Encoded]]] = deque()
        for batch in fill(_cut(engine, asks, cutters), limit):
            if len(running) == IN_FLIGHT:
                running.popleft().result()
            running.append(collector.submit(engine.launch(batch).collect))
        for each in running:
            each.result()


def _cut(engine: Engine, asks: Sequence[Ask], cutters: ThreadPoolExecutor) -> Iterator[tuple[Ask, Prepared]]:
    """Tokenize some chunks ahead of whoever reads."""
    waiting: deque[tuple[Sequence[Ask], Future[list[Prepared]]]] = deque()
    for start in range(0, len(asks), CHUNK):
        chunk = asks[start : start + CHUNK]
        waiting.append((chunk, cutters.submit(engine.prepare, chunk)))
        if len(waiting) > 2 * TOKENIZER_THREADS:
            yield from _next(waiting)
    while waiting:
        yield from _next(waiting)


def _next(waiting: deque[tuple[Sequence[Ask], Future[list[Prepared]]]]) -> Iterator[tuple[Ask, Prepared]]:
    chunk, future = waiting.popleft()
    return zip(chunk, future.result(), strict=True)
