"""Into which parts is a call cut that does not fit one record?"""

from __future__ import annotations

from collections.abc import Iterable


def cut(sizes_bytes: Iterable[int], max_items: int, max_bytes: int) -> list[range]:
    """Cut a row of items into consecutive parts of at most `max_items` and `max_bytes` each, greedily.

    An item larger than `max_bytes` is a part of its own: whether that may be is not decided here.
    """
    parts: list[range] = []
    start, used, count = 0, 0, 0
    for size in sizes_bytes:
        if count > start and (count - start == max_items or used + size > max_bytes):
            parts.append(range(start, count))
            start, used = count, 0
        used += size
        count += 1
    if count > start:
        parts.append(range(start, count))
    return parts


def cut_again(part: range, fits: int) -> list[range]:
    """Cut a part into parts of at most `fits` items."""
    return [range(start, min(start + fits, part.stop)) for start in range(part.start, part.stop, fits)]
