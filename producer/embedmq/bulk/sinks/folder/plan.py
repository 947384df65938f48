"""Which parts does a commit copy into which?"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from embedmq.bulk.sinks.folder.manifest import Part

SMALL_BYTES = 16 * 2**20
"""A part below this is worth merging with others."""
MAX_SMALL_PARTS = 64
"""So many small parts may lie in a folder; one more, and the oldest of them are merged."""
MAX_MERGED_BYTES = 128 * 2**20
"""About as much is merged in one commit: what bounds the time that it takes."""


def copies(committed: Sequence[Part], fresh: Sequence[Part], touched: AbstractSet[int]) -> list[tuple[Part, ...]]:
    """Groups of parts, each to be copied into one, without the rows whose ids were written again since.

    `fresh` are the parts since the last commit, more than one where an id came twice: a commit makes one part of them.
    `touched` are the numbers of parts that have such rows.
    """
    merged = _crowd(committed)
    groups = [tuple(fresh)] if len(fresh) > 1 else []
    groups += [(part,) for part in committed if part.number in touched and part not in merged]
    return [*groups, merged] if merged else groups


def _crowd(committed: Sequence[Part]) -> tuple[Part, ...]:
    small = [part for part in committed if part.size_bytes < SMALL_BYTES]
    if len(small) <= MAX_SMALL_PARTS:
        return ()
    chosen: list[Part] = []
    total = 0
    for part in small:
        chosen.append(part)
        total += part.size_bytes
        if total >= MAX_MERGED_BYTES:
            break
    return tuple(chosen)
