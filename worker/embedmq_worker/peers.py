"""Which items in flight differ in their texts only, and what was computed of those that do not differ at all?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from embedmq_schemas.requests import Item

from embedmq_worker.engine.seam import Block, Encoded, ModelFacts, Options

Key = str | tuple[int, ...]
"""An item: its text, or its token ids."""

Scope = tuple[int, Options, str | None]
"""A loaded model (by the identity of its facts, which `Peers` keeps alive), options and query."""


class Peers:
    """Items in flight for one loaded model, with the same options and against the same query.

    `held` counts the requests' items of each key. `found` has what becomes of it, if anybody may ask: an event while a
    batch computes it, then its vector, as long as another identical item is in flight. An event that is set and still
    there says that nothing came of it.
    """

    __slots__ = ("facts", "found", "held", "scope")

    def __init__(self, facts: ModelFacts, scope: Scope) -> None:
        """`facts` are those of the model as it was loaded; `scope` is where whoever made this finds it again."""
        self.facts = facts
        self.scope = scope
        self.held: dict[Key, int] = {}
        self.found: dict[Key, asyncio.Event | Encoded] = {}

    def enter(self, keys: Sequence[Key]) -> int:
        """Items are in flight from now on; returns how many of them have a twin that was there before."""
        held = self.held
        before = len(held)
        for key in keys:
            held[key] = held.get(key, 0) + 1
        return before + len(keys) - len(held)

    def leave(self, keys: Sequence[Key]) -> int:
        """They no longer are; of the last of its kind, nothing is kept. Returns how many leave a twin behind."""
        held, found = self.held, self.found
        left = 0
        for key in keys:
            count = held.pop(key)
            if count > 1:
                held[key] = count - 1
                left += 1
            elif found:
                found.pop(key, None)
        return left

    def claim(self, key: Key, done: asyncio.Event) -> asyncio.Event | Encoded | None:
        """None if the caller is the one to compute this item, and to set `done` then, whatever came of it; else what
        there is of it, or will be.
        """
        found = self.found.get(key)
        if found is None or (isinstance(found, asyncio.Event) and found.is_set()):
            self.found[key] = done
            return None
        return found

    def keep(self, key: Key, vectors: Encoded, row: int) -> None:
        """An item was computed, as one row of `vectors`: keep a copy if an identical one is in flight."""
        if self.held.get(key, 0) > 1:
            self.found[key] = pick(vectors, row)

    def vector(self, key: Key) -> Encoded | None:
        """What was kept."""
        found = self.found.get(key)
        return found if isinstance(found, Encoded) else None


def keys(items: Sequence[Item]) -> Sequence[Key]:
    """What items are to their peers: texts are themselves."""
    if list in map(type, items):
        return [item if isinstance(item, str) else tuple(item) for item in items]
    return cast("Sequence[str]", items)


def pick(vectors: Encoded, row: int) -> Encoded:
    """The answer to one item out of that to several, in memory of its own."""
    dense, sparse, tokens, scores = vectors.dense, vectors.sparse, vectors.multivector, vectors.scores
    return Encoded(
        dense=None if dense is None else _pick(dense, row),
        sparse=None if sparse is None else [sparse[row]],
        multivector=None if tokens is None else [tokens[row]],
        scores=None if scores is None else scores[row : row + 1].copy(),
    )


def _pick(block: Block, row: int) -> Block:
    scales = block.scales
    return Block(block.data[row : row + 1].copy(), None if scales is None else scales[row : row + 1].copy())
