"""How fast is the same encoder with no queue around it? In a process of its own, which waits while ours is measured."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, cast

from embedmq_worker.choose import Budget
from embedmq_worker.config import Model
from embedmq_worker.engine.checkpoint import locate
from embedmq_worker.engine.load import load
from embedmq_worker.engine.seam import Ask, Engine, Options, Slice
from msgspec import Struct

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

END_TIMEOUT_S = 10.0
SENTENCE_TRANSFORMERS_BATCH = 32


class Work(Struct, frozen=True):
    """Texts to encode: with our engine in batches as large as `budget` allows, or without one as
    sentence-transformers does it.
    """

    texts: list[str]
    budget: Budget | None


class Direct:
    """The encoder in another process."""

    def __init__(self, connection: Connection[Work, float], pid: int) -> None:
        self.pid = pid
        self._connection = connection

    def seconds(self, texts: list[str], budget: Budget | None) -> float:
        """How long it takes to encode the texts."""
        self._connection.send(Work(texts, budget))
        try:
            return self._connection.recv()
        except EOFError:
            raise RuntimeError("the process of the direct encoder has ended; its error is above") from None


@contextlib.contextmanager
def direct(checkpoint: str) -> Iterator[Direct]:
    """Start the process; it ends here, or with this process."""
    context = get_context("spawn")
    here, there = cast("tuple[Connection[Work, float], Connection[float, Work]]", context.Pipe())
    process = context.Process(target=_serve, args=(there, checkpoint), daemon=True)
    process.start()
    there.close()
    try:
        yield Direct(here, process.pid or 0)
    finally:
        here.close()
        process.join(END_TIMEOUT_S)


def by_engine(engine: Engine, texts: Sequence[str], budget: Budget) -> None:
    """Tokenize all, then encode one batch after the other in the order given, each filled as the worker's are."""
    prepared = engine.prepare([Ask([text], Options()) for text in texts])
    slices = [Slice(each, Options(), 0, 1) for each in prepared]
    for start, stop in fill([sum(each.tokens) for each in prepared], budget):
        engine.launch(slices[start:stop]).collect()


def fill(tokens: Sequence[int], budget: Budget) -> Iterator[tuple[int, int]]:
    """Cut a row of texts into batches: a text that does not fit begins the next one."""
    start = held = 0
    for index, count in enumerate(tokens):
        if index > start and (held + count > budget.tokens or index - start == budget.items):
            yield start, index
            start, held = index, 0
        held += count
    if start < len(tokens):
        yield start, len(tokens)


def _serve(connection: Connection[float, Work], checkpoint: str) -> None:
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # before transformers is imported: it looks only then
    from sentence_transformers import SentenceTransformer

    engine = load(Model(checkpoint=checkpoint), "auto")
    plain = SentenceTransformer(locate(checkpoint).source, local_files_only=True)
    with contextlib.suppress(EOFError, ConnectionError):  # whoever asks has gone
        while True:
            connection.send(_timed(engine, plain, connection.recv()))


def _timed(engine: Engine, plain: SentenceTransformer, work: Work) -> float:
    start_s = time.perf_counter()
    if work.budget is None:
        plain.encode(work.texts, batch_size=SENTENCE_TRANSFORMERS_BATCH, show_progress_bar=False)
    else:
        by_engine(engine, work.texts, work.budget)
    return time.perf_counter() - start_s
