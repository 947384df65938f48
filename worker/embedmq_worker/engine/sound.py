"""Which items have numbers that are none, though nothing failed? In 16 bits, a model may overflow on a single text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from embedmq_worker.engine.rows import Raw
from embedmq_worker.engine.seam import Fault, Slice

OVERFLOWN = Fault("processing_failed", "the model overflowed on this text: its numbers are none (NaN or infinite)")

Flags = NDArray[np.bool_]


def sound(raw: Raw) -> list[Tensor]:
    """Of each output whether its rows are numbers throughout, looked at before integers hide it; nothing waits."""
    wide = [rows.isfinite().all(1) for rows in (raw.dense, raw.sparse, raw.tokens) if rows is not None]
    return wide if raw.scores is None else [*wide, raw.scores.isfinite()]


def name_overflown(flags: Sequence[Flags], batch: Sequence[Slice], offsets: Sequence[int]) -> None:
    """Give the items a fault whose numbers are none; `offsets` are where each sequence's tokens begin, and end."""
    if all(found.all() for found in flags):
        return
    items = [(part, i) for part in batch for i in range(part.start, part.stop) if i not in part.prepared.faults]
    for found in flags:
        each = found if len(found) == len(items) else np.logical_and.reduceat(found, offsets[:-1])
        for (part, item), good in zip(items, each.tolist(), strict=True):
            if not good:
                part.prepared.faults[item] = OVERFLOWN
