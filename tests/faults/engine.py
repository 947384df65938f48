"""What does the engine of a worker under test compute, and on which texts does it break, and how?"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

import numpy as np
from embedmq_worker import errors
from embedmq_worker.config import Model
from embedmq_worker.engine import null
from embedmq_worker.engine.seam import Ask, Block, Done, Encoded, Fault, ModelFacts, Prepared, Slice
from embedmq_worker.errors import CheckpointUnreachable, OutOfMemory, WorkerError

from tests.faults import truth
from tests.faults.diary import Writer
from tests.faults.switches import Switches

SLOW_S = 2.0
OVERFLOWN = Fault("processing_failed", "the numbers are none")


class FaultyEngine:
    """Vectors derived from the texts; takes `batch_ms` a batch, and does what texts tell it to."""

    def __init__(self, diary: Writer, switches: Switches, batch_ms: float, mib: int) -> None:
        self._diary = diary
        self._switches = switches
        self._batch_s = batch_ms / 1000
        self.facts = ModelFacts(
            dimensions=truth.WIDTH,
            max_tokens=2**20,
            vocabulary=2**31 - 1,
            path="null",
            reason="vectors derived from the text, to find mix-ups",
            bytes=mib * 2**20,
            tokenizes=False,
        )

    def prepare(self, asks: Sequence[Ask]) -> list[Prepared]:
        """One token a byte."""
        rows = [[_ids(item) for item in ask.items] for ask in asks]
        return [Prepared([len(ids) for ids in row], row, [], {}) for row in rows]

    def launch(self, batch: Sequence[Slice]) -> Done:
        """Compute all, or break on the first text that says so."""
        texts = [[_text(part, item) for item in range(part.start, part.stop)] for part in batch]
        everything = [text for part in texts for text in part]
        number = self._diary.begin([text.partition(" ")[0] for text in everything])
        try:
            self._endure(everything)
        except Exception as error:
            self._diary.write("broke", number, type(error).__name__)
            raise
        encoded = [self._encode(part, rows) for part, rows in zip(batch, texts, strict=True)]
        self._diary.write("end", number)
        return Done(encoded)

    def free_cache(self) -> None:
        """Nothing to give back."""

    def close(self) -> None:
        """Nothing to give back."""

    def _endure(self, texts: Sequence[str]) -> None:
        words = {word for text in texts for word in text.split() if word.startswith("!")}
        time.sleep(self._batch_s + (SLOW_S if truth.SLOW in words else 0))
        if truth.SEGFAULT in words:
            os.kill(os.getpid(), signal.SIGSEGV)
        if truth.OOM_KILL in words:
            os.kill(os.getpid(), signal.SIGKILL)
        if truth.ASSERT in words:
            raise errors.DeviceLost("device-side assert")
        if truth.OOM_ALONE in words or (truth.OOM in words and len(texts) > 1):
            raise OutOfMemory("too little memory for this batch")
        if truth.FAIL in words or self._switches.get("fail"):
            raise ValueError("a text that no model can take")

    def _encode(self, part: Slice, texts: Sequence[str]) -> Encoded:
        rows = np.stack([truth.vector(text) for text in texts])
        for index, text in enumerate(texts):
            if truth.NAN in text:
                rows[index] = np.nan
                part.prepared.faults[part.start + index] = OVERFLOWN
        return Encoded(dense=Block(rows))


class Loader:
    """Takes the place of `embedmq_worker.engine.load.load`."""

    def __init__(self, diary: Writer, switches: Switches) -> None:
        self._diary = diary
        self._switches = switches

    def __call__(self, model: Model, device: str) -> FaultyEngine:
        """Load, unless a switch says that it fails."""
        form = null.read(model.checkpoint.removeprefix("null:"))
        self._diary.write("load")
        time.sleep(form.load_ms / 1000)
        match self._switches.get("load"):
            case "unreachable":
                raise CheckpointUnreachable("the disk does not answer")
            case "memory":
                raise OutOfMemory("no room for the weights")
            case "broken":
                raise WorkerError("a load that fails as none was foreseen to")
            case _:
                return FaultyEngine(self._diary, self._switches, form.batch_ms, form.mib)


def _ids(item: str | Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    data = list(item.encode()) if isinstance(item, str) else list(item)
    return np.array(data, np.int32)


def _text(part: Slice, item: int) -> str:
    assert part.prepared.ids is not None
    return bytes(part.prepared.ids[item].tolist()).decode()
