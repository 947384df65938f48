"""A source and a sink of somebody's own, in memory: what a test wants to break, it can reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from embedmq.bulk.ports import Repeats
from embedmq.bulk.rows import Block, Flaw, Position, Row, Shape, Vectors
from embedmq_schemas.vectors import Array

ROWS_PER_BLOCK = 32


def found(blocks: Sequence[Block]) -> list[Row | Flaw]:
    """What is in blocks, each block's rows before its flaws."""
    every: list[Row | Flaw] = []
    for block in blocks:
        every += [*block.rows]
        every += [*block.flaws]
    return every


class Shelf:
    """Rows in a list. An entry that is a text is a flaw of that reason."""

    def __init__(self, rows: Sequence[tuple[str, str] | str], repeats: Repeats = "flaw") -> None:
        self.rows = rows
        self.repeats: Repeats = repeats
        self.taken = 0
        self.before_block: Callable[[int], None] = lambda number: None

    def open(self) -> None:
        self.taken = 0

    def count(self) -> int | None:
        return len(self.rows)

    def read(self, after: Position | None) -> Iterator[Block]:
        start = 0 if after is None else int(str(after["row"]))
        for begin in range(start, len(self.rows), ROWS_PER_BLOCK):
            self.before_block(begin)
            part = list(enumerate(self.rows[begin : begin + ROWS_PER_BLOCK], begin))
            self.taken += len(part)
            yield Block(
                rows=[Row(entry[0], entry[1]) for _, entry in part if not isinstance(entry, str)],
                after={"row": begin + len(part)},
                flaws=[Flaw(f"row {i}", "unreadable", entry) for i, entry in part if isinstance(entry, str)],
                places=[f"row {i}" for i, entry in part if not isinstance(entry, str)],
            )

    def close(self) -> None:
        pass


class Drawer:
    """Vectors in a dict: `kept` as the last commit left it, and what was written since."""

    at_least_once = False

    def __init__(self) -> None:
        self.kept: dict[str, tuple[bytes, Array]] = {}
        self.written: dict[str, tuple[bytes, Array]] = {}
        self.checkpoints: dict[str, bytes] = {}
        self.job = ""
        self.commits = 0
        self.before_write: Callable[[Vectors], None] = lambda vectors: None
        self.before_commit: Callable[[], None] = lambda: None

    def is_there(self) -> bool:
        return bool(self.kept)

    def open(self, job: str, shape: Shape) -> None:
        self.job = job
        self.written = {}

    def load(self) -> bytes | None:
        return self.checkpoints.get(self.job)

    def hashes(self, ids: Sequence[str]) -> Mapping[str, bytes | None]:
        return {id: self.kept[id][0] for id in ids if id in self.kept}

    def write(self, vectors: Vectors) -> None:
        self.before_write(vectors)
        assert len(set(vectors.ids)) == len(vectors.ids) == len(vectors.hashes) == len(vectors.kept)
        assert not np.isnan(vectors.dense).any()
        self.written |= dict(zip(vectors.ids, zip(vectors.hashes, vectors.dense.copy(), strict=True), strict=True))

    def commit(self, checkpoint: bytes) -> None:
        self.before_commit()
        self.kept |= self.written
        self.written = {}
        self.checkpoints[self.job] = checkpoint
        self.commits += 1

    def clear(self) -> None:
        self.checkpoints.pop(self.job, None)

    def close(self) -> None:
        self.written = {}
