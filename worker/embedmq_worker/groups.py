"""Which writes go together next, when some of them got no answer? Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

ALONE_ATTEMPTS = 10
"""How often one write may break its connection, with Redis taking another write after each time."""

T = TypeVar("T")


class Groups(Generic[T]):
    """Begins with all in one group. A group that broke is halved and goes behind the others, so that what is too large
    for a connection, or breaks it, ends up alone, after its neighbours; after a success groups grow again.
    """

    def __init__(self, writes: Iterable[T]) -> None:
        self._left = deque(writes)
        self._most = len(self._left)
        self._broke_alone: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._left)

    def take(self) -> list[T]:
        """The next group."""
        return [self._left.popleft() for _ in range(min(self._most, len(self._left)))]

    def put_back(self, writes: Iterable[T]) -> None:
        """These were refused for now."""
        self._left.extend(writes)

    def answered(self) -> None:
        """A whole group got through."""
        self._most *= 2

    def broke(self, group: Sequence[T]) -> None:
        """A group got no answer: which of its writes are done is unknown, so all are to be done again."""
        self._most = max(1, len(group) // 2)
        self._left.extend(group)

    def is_hopeless(self, write: T) -> bool:
        """Whether a write that broke its connection, being alone, has done so often enough."""
        self._broke_alone[id(write)] += 1
        return self._broke_alone[id(write)] >= ALONE_ATTEMPTS
