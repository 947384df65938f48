"""What does a fake client have in place of Redis? Values by key, each until its time on the test's clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil

from embedmq.store import Store


class Memory:
    """Keys and values that clients of one fake fleet share."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._values: dict[str, tuple[bytes, float]] = {}

    def get(self, key: str) -> bytes | None:
        """The value, if it still lives."""
        found = self._values.get(key)
        return None if found is None or found[1] <= self._clock() else found[0]

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Write a value that lives for `ttl_s`."""
        self._values[key] = (value, self._clock() + ttl_s)

    def swap(self, key: str, value: bytes) -> bytes | None:
        """Replace a value that lives, for as long as it would have lived; returns what was there."""
        before = self.get(key)
        if before is not None:
            self._values[key] = (value, self._values[key][1])
        return before

    def left_s(self, key: str) -> int:
        """How long a value still lives, in seconds; below 0 for one that does not."""
        return -2 if self.get(key) is None else ceil(self._values[key][1] - self._clock())

    def drop(self, key: str) -> None:
        """Remove a value."""
        self._values.pop(key, None)

    def find(self, prefix: str) -> dict[str, bytes]:
        """What follows `prefix` in the keys that begin with it, and their values."""
        found = ((key, self.get(key)) for key in sorted(self._values) if key.startswith(prefix))
        return {key[len(prefix) :]: value for key, value in found if value is not None}


class MemoryStore(Store):
    """A `Store` that asks the memory; it is always there."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def start(self) -> None:
        """Nothing to connect to."""

    async def stop(self) -> None:
        """What is there stays: another client may ask for it."""

    async def get(self, key: str) -> bytes | None:
        return self._memory.get(key)

    async def get_all(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self._memory.get(key) for key in keys]

    async def put(self, key: str, value: bytes, ttl_s: int) -> None:
        self._memory.put(key, value, ttl_s)

    async def put_all(self, lives_s: Mapping[str, int], value: bytes) -> None:
        for key, ttl_s in lives_s.items():
            self._memory.put(key, value, ttl_s)

    async def swap(self, key: str, value: bytes) -> bytes | None:
        return self._memory.swap(key, value)

    async def left_s(self, key: str) -> int:
        return self._memory.left_s(key)

    async def drop(self, key: str) -> None:
        self._memory.drop(key)

    async def find(self, prefix: str) -> dict[str, bytes]:
        return self._memory.find(prefix)
