"""What does a worker under test do, told by itself in a file that survives any death of it?

One JSON array a line: what, when (nanoseconds of the machine's monotonic clock, the same for all processes), details.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct

Entry = Literal["begin", "end", "broke", "delivered", "commit", "violation", "load", "beat"]


class Writer:
    """One process's diary."""

    def __init__(self, folder: Path) -> None:
        path = folder / f"{os.getpid()}-{time.monotonic_ns()}.diary"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._lock = threading.Lock()
        self._batches = 0

    def write(self, entry: Entry, *details: object) -> None:
        """Nothing is buffered in the process: what is written survives a kill."""
        line = json.dumps([entry, time.monotonic_ns(), *details]).encode() + b"\n"
        with self._lock:
            os.write(self._file, line)

    def begin(self, keys: Sequence[str]) -> int:
        """A batch is on the device."""
        with self._lock:
            self._batches += 1
            number = self._batches
        self.write("begin", number, list(keys))
        return number


class Stretch(Struct):
    """One batch: `end_ns` is None while it is on the device, or since its process died."""

    begin_ns: int
    keys: list[str]
    end_ns: int | None = None
    computed: bool = False


class Life:
    """One process, as its diary tells it."""

    def __init__(self, path: Path) -> None:
        self.pid = int(path.name.partition("-")[0])
        self.batches: dict[int, Stretch] = {}
        self.delivered: set[str] = set()
        self.violations: list[str] = []
        self.loads = 0
        self._path = path
        self._at = 0

    @property
    def on_device(self) -> list[str]:
        """Keys of the batches that are not over."""
        return [key for batch in self.batches.values() if batch.end_ns is None for key in batch.keys]

    def read(self) -> None:
        """What was written since the last time."""
        with self._path.open("rb") as file:
            file.seek(self._at)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._at += len(whole)
        for line in whole.splitlines():
            self._take(*json.loads(line))

    def _take(self, entry: Entry, when_ns: int, *details: object) -> None:
        match entry, details:
            case "begin", (int(number), list(keys)):
                self.batches[number] = Stretch(when_ns, keys)
            case (("end" | "broke"), (int(number), *_)):
                self.batches[number].end_ns = when_ns
                self.batches[number].computed = entry == "end"
            case "delivered", (list(ids),):
                self.delivered.update(ids)
            case "violation", (str(what),):
                self.violations.append(what)
            case "load", _:
                self.loads += 1


class Diaries:
    """All processes that ran in one place."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lives: dict[Path, Life] = {}

    def read(self) -> list[Life]:
        """All lives, brought up to date, in the order of their birth."""
        for path in self._folder.glob("*.diary"):
            self._lives.setdefault(path, Life(path))
        for life in self._lives.values():
            life.read()
        return list(self._lives.values())

    def busy(self, pids: Sequence[int]) -> list[str]:
        """What is on the devices of these processes now."""
        return [key for life in self.read() if life.pid in pids for key in life.on_device]

    def computed(self) -> Counter[str]:
        """How often each item was computed to the end."""
        return Counter(
            key for life in self.read() for batch in life.batches.values() if batch.computed for key in batch.keys
        )

    def repeated(self, life: Life) -> set[str]:
        """What one process computed, and another one again after that one's last batch (before, it was a rebalance)."""
        lives = self.read()  # this one's last lines, too
        mine = {key for batch in life.batches.values() if batch.computed for key in batch.keys}
        last_ns = max((batch.end_ns or 0 for batch in life.batches.values()), default=0)
        later = (b for other in lives for b in other.batches.values() if b.computed and b.begin_ns > last_ns)
        return {key for batch in later for key in batch.keys if key in mine}

    def first_begins(self) -> dict[str, int]:
        """When each item was first on a device, in nanoseconds."""
        found: dict[str, int] = {}
        for life in self.read():
            for batch in life.batches.values():
                for key in batch.keys:
                    found[key] = min(batch.begin_ns, found.get(key, batch.begin_ns))
        return found

    def idle_share(self, from_ns: int, to_ns: int) -> float:
        """Part of a stretch of time in which no device had a batch."""
        spans = sorted(
            (max(from_ns, batch.begin_ns), min(to_ns, batch.end_ns))
            for life in self.read()
            for batch in life.batches.values()
            if batch.end_ns is not None and batch.end_ns > from_ns and batch.begin_ns < to_ns
        )
        busy, reached = 0, from_ns
        for begin, end in spans:
            busy += max(0, end - max(begin, reached))
            reached = max(reached, end)
        return 1 - busy / (to_ns - from_ns) if to_ns > from_ns else 0.0

    def first_batch_ns(self, after_ns: int) -> int | None:
        """When the first batch after a moment began."""
        return min(
            (b.begin_ns for life in self.read() for b in life.batches.values() if b.begin_ns >= after_ns), default=None
        )
