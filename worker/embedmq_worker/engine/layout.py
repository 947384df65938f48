"""How do token rows of mixed lengths become one batch without padding, in one copy to the device?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from embedmq_worker.engine.rows import Layout
from embedmq_worker.engine.seam import Ids


def pack(
    rows: Sequence[Ids],
    device: torch.device,
    *,
    firsts: Sequence[int] | None = None,
    skips: Sequence[int] | None = None,
) -> Layout:
    """Lay token rows end to end.

    All that the device needs is one int32 buffer, so that there is one copy to it, which the host does not wait for.

    Args:
        rows: Token ids; at least one row, none of them empty.
        device: Where to.
        firsts: Of each row, how many leading tokens are of type 0, the others being 1; None where the model knows
            no types.
        skips: Of each row, how many leading tokens are not pooled.
    """
    lengths = np.fromiter(map(len, rows), np.int32, len(rows))
    starts = np.zeros(len(rows) + 1, np.int32)
    np.cumsum(lengths, out=starts[1:])
    total = int(starts[-1])
    sizes = [total, total, total, len(starts), total * (firsts is not None), len(rows) * (skips is not None)]
    # Pinned memory is never reused by hand: torch's caching host allocator notes the copy below on its stream, and
    # gives the block out again only when that copy is done, however early the last reference to it goes.
    host = torch.empty(sum(sizes), dtype=torch.int32, pin_memory=device.type == "cuda")
    ids, positions, owners, begins, types, skipped = np.split(host.numpy(), np.cumsum(sizes)[:-1])
    np.concatenate(rows, out=ids)
    owners[:] = np.repeat(np.arange(len(rows), dtype=np.int32), lengths)
    np.subtract(np.arange(total, dtype=np.int32), starts[owners], out=positions)
    begins[:] = starts
    if firsts is not None:
        types[:] = positions >= np.asarray(firsts, np.int32)[owners]
    if skips is not None:
        skipped[:] = skips
    parts = torch.split(host.to(device, non_blocking=True), sizes)
    return Layout(
        ids=parts[0],
        positions=parts[1],
        rows=parts[2],
        starts=parts[3],
        lengths=tuple(lengths.tolist()),
        types=parts[4] if firsts is not None else None,
        skips=parts[5] if skips is not None else None,
    )
