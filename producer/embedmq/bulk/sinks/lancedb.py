"""How do vectors get into a table of LanceDB?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import lancedb

from embedmq.bulk.errors import Away, SinkRefused
from embedmq.bulk.rows import Columns, Shape, Vectors
from embedmq.bulk.sinks.address import Address, read_address
from embedmq.bulk.sinks.beside import Beside
from embedmq.bulk.sinks.kept import refuse_collisions
from embedmq.bulk.sinks.lancedb_rows import OWN, fields, merged, refuse_mismatch

MERGE_ROWS = 8_192
MERGE_BYTES = 64 * 1024 * 1024
"""What gathers before it goes into the table, in one step and one fragment; the rest goes at a commit."""
MAX_SMALL_FRAGMENTS = 64
"""More of them, and a commit makes them one: that rewrites no more than LanceDB's largest fragment, a million rows."""


_RUST = re.compile(r",? *\S+\.rs:\d+(?::\d+)?")
"""Where in its source an error comes from, which means nothing to a reader."""


class LancedbSink:
    """`lancedb:///path/of/a/folder?table=docs`, or a path that ends in `docs.lance`; columns `id`, `vector`,
    `content_hash` and, as text, what is kept.

    Rows are merged by id. Checkpoints and the lock are in the folder `<table>.embedmq` beside the table, so that one
    process writes it at a time. LanceDB runs threads from its import on: do not fork behind it.
    """

    at_least_once = False

    def __init__(self, uri: str, columns: Columns) -> None:
        del columns  # the shape has what travels along
        address = read_address(uri, "table")
        self._folder, self._name = _place(address)
        self._where = f"table {self._name} in {self._folder}"
        self._beside: Beside | None = None
        self._table: lancedb.table.Table | None = None
        self._waiting: list[Vectors] = []
        self._job = ""
        self._shape = Shape(dimensions=0)

    def is_there(self) -> bool:
        """Whether there is such a table."""
        return (self._folder / f"{self._name}.lance").exists()

    def open(self, job: str, shape: Shape) -> None:
        """Lock the table, and make it or its missing columns."""
        refuse_collisions(shape, OWN, self._where)
        self._job, self._shape = job, shape
        self._waiting = []
        self._beside = Beside(self._folder / f"{self._name}.embedmq")
        with self._explained():
            database = lancedb.connect(self._folder)
            wanted = fields(shape)
            if not (self._folder / f"{self._name}.lance").exists():
                database.create_table(self._name, schema=wanted, exist_ok=True)
            self._table = database.open_table(self._name)
            refuse_mismatch(self._where, self._table.schema, shape)
            if lacking := [field for field in wanted if field.name not in self._table.schema.names]:
                self._table.add_columns(lacking)

    def load(self) -> bytes | None:
        """The checkpoint of this job."""
        return self._held().load(self._job)

    def hashes(self, ids: Sequence[str]) -> Mapping[str, bytes | None]:
        """Of what was merged, by one query; a row that has no vector yet counts as missing."""
        listed = ", ".join("'" + id.replace("'", "''") + "'" for id in ids)
        query = f"id in ({listed}) and vector is not null"  # LanceDB takes no parameters
        with self._explained():
            found = self._opened().search().where(query).select(["id", "content_hash"]).limit(len(ids)).to_arrow()
        return dict(zip(found["id"].to_pylist(), found["content_hash"].to_pylist(), strict=True))

    def write(self, vectors: Vectors) -> None:
        """Gather, and merge when there is enough of it."""
        self._waiting.append(vectors)
        rows = sum(map(len, self._waiting))
        if rows >= MERGE_ROWS or sum(part.dense.nbytes for part in self._waiting) >= MERGE_BYTES:
            self._merge()

    def commit(self, checkpoint: bytes) -> None:
        """Merge the rest, then keep the checkpoint; now and then make few fragments of many."""
        self._merge()
        self._held().keep(self._job, checkpoint)
        with self._explained():
            stats = cast("Mapping[str, Mapping[str, int]]", self._opened().stats())  # which are no classes, as it says
            if stats["fragment_stats"]["num_small_fragments"] > MAX_SMALL_FRAGMENTS:
                self._opened().optimize()

    def clear(self) -> None:
        """Forget the checkpoint."""
        self._held().forget(self._job)

    def close(self) -> None:
        """Let go of table and lock."""
        self._table, self._waiting = None, []
        beside, self._beside = self._beside, None
        if beside is not None:
            beside.release()

    def _merge(self) -> None:
        if not self._waiting:
            return
        with self._explained():
            rows = merged(self._waiting, self._shape)
            merge = self._opened().merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            merge.execute(rows)
        self._waiting = []

    def _held(self) -> Beside:
        if self._beside is None:
            raise RuntimeError("not open")
        return self._beside

    def _opened(self) -> lancedb.table.Table:
        if self._table is None:
            raise RuntimeError("not open")
        return self._table

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """LanceDB has few exceptions of its own; the words tell more than their types."""
        try:
            yield
        except (RuntimeError, OSError, ValueError) as error:
            what = " ".join(_RUST.sub("", str(error)).split())[:500]
            if "conflict" in what.lower():
                raise Away(f"{self._where}: somebody else writes it: {what}") from error
            remedy = ": make room, then run the same command" if "No space left" in what else ""
            raise SinkRefused(f"{self._where}: {what}{remedy}") from error


def _place(address: Address) -> tuple[Path, str]:
    """The folder and the table."""
    path, table = Path(address.path), address.options.get("table")
    if address.authority:
        message = f"{address.shown} is another machine's, and only folders can be written from here"
        raise SinkRefused(f"{message}: write three slashes, lancedb:///path/of/a/folder?table=docs")
    if table is None and path.suffix == ".lance":
        return path.parent, path.stem
    if table is None or not address.path.strip("/"):
        raise SinkRefused(f"{address.shown} names no table: write lancedb:///path/of/a/folder?table=docs")
    return path, table
