"""What does a bulk job ask of a source and of a sink?

Both are plain blocking code: each is called from one thread of its own, never from two at once, so a database's
connection may live in it. An adapter is a class that is made with `(uri, columns)`, raises `SourceRefused` or
`SinkRefused` for an address that it cannot read, and touches nothing before `open`. Entry points of the groups
`embedmq.sources` and `embedmq.sinks` name it by the scheme of an address (`qdrant://…`) or by the ending of a path
(`.jsonl`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Protocol

from embedmq.bulk.rows import Block, Position, Shape, Vectors

Repeats = Literal["never", "flaw", "update"]


class Source(Protocol):
    """Rows in an order that is the same whenever it is read."""

    repeats: Repeats
    """What an id that comes twice is: it never does (a primary key), it is a mistake, or the newer version of a row."""

    def open(self) -> None:
        """Look whether it is there and has its columns; raises SourceRefused, Away."""

    def count(self) -> int | None:
        """How many rows it has, where that is known without reading them all."""

    def read(self, after: Position | None) -> Iterator[Block]:
        """The rows behind a position, or all; a row that cannot be read is a `Flaw`. Raises SourceRefused where the
        position is none of this source, Away.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections; also after a failed `open`."""


class Sink(Protocol):
    """Vectors by id: what is written replaces what was there under the same id."""

    at_least_once: bool
    """Whether a row may be there twice after a kill: of a log, which keeps no ids."""

    def is_there(self) -> bool:
        """Whether there is anything yet where it writes: a dry run asks before it opens what would be made. Raises as
        `open` does.
        """
        ...

    def open(self, job: str, shape: Shape) -> None:
        """Create what is missing, and hold it against `shape`; take the lock that keeps a second writer of the same
        files, or of the same job, out. Raises SinkRefused, JobTaken, Away.
        """

    def load(self) -> bytes | None:
        """The checkpoint that the last `commit` of this job kept."""

    def hashes(self, ids: Sequence[str]) -> Mapping[str, bytes | None]:
        """Those of `ids` that it has, with the content hash that was written with each; None where it has none.

        Raises SinkRefused where the sink cannot be asked (a log).
        """
        ...

    def write(self, vectors: Vectors) -> None:
        """Take rows, perhaps into a buffer.

        Raises ValueRefused for a row whose id or kept value it cannot hold: it has taken none of them then, and is
        asked again with the others. Raises SinkRefused, Away: then nothing since the last `commit` counts, the sink is
        as `open` would find it, and the rows since then are written again.
        """

    def commit(self, checkpoint: bytes) -> None:
        """Make all that was written durable, *then* keep the checkpoint of this job; raises as `write` does.

        After a kill at any moment the sink is as of a commit (files), or has some rows more, which are written again
        (databases).
        """

    def clear(self) -> None:
        """Forget the checkpoint of this job: what is in the sink stays."""

    def close(self) -> None:
        """Let go of locks, files and connections, without a commit; also after a failed `open`."""
