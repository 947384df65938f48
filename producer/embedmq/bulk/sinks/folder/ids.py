"""In which part is an id, and with which content hash?

A cache of what the parts say, in SQLite: on the disk, so that its memory is bounded whatever the rows. Its version is
the generation of the manifest that it agrees with; a transaction is open from commit to commit, so that a kill leaves
it at an earlier generation, and it catches up from the parts written since, or from all of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from embedmq.bulk.sinks.folder.manifest import Manifest, Part

INDEX = "_embedmq.ids"
CACHE_KIB = 8192
_ASK_IDS = 512

IdsOf = Callable[[Part], Iterable[tuple[Sequence[str], Sequence[bytes]]]]
"""Reads ids and content hashes of a part, some at a time."""

# The folder is locked, so nobody else reads it (EXCLUSIVE, which works without shared memory, on network disks too);
# WAL with NORMAL never breaks and may lose the last transactions when the power goes: then it catches up.
_SETUP = f"""
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -{CACHE_KIB};
PRAGMA journal_size_limit = 67108864;
CREATE TABLE IF NOT EXISTS ids (id TEXT PRIMARY KEY, part INTEGER NOT NULL, hash BLOB NOT NULL) WITHOUT ROWID;
BEGIN;
"""


class Ids:
    """Every id of the folder once. All methods raise sqlite3.Error."""

    def __init__(self, folder: Path) -> None:
        # made in one thread, closed in another, never used by two at once
        self._database = sqlite3.connect(folder / INDEX, isolation_level=None, check_same_thread=False)
        try:
            self._database.executescript(_SETUP)
        except sqlite3.Error:
            self._database.close()
            raise

    @property
    def generation(self) -> int:
        version: int = self._database.execute("PRAGMA user_version").fetchone()[0]
        return version

    def parts(self, ids: Sequence[str]) -> dict[str, int]:
        """The number of the part that has each of `ids`, of those that are anywhere."""
        return {id: part for id, part, _ in self._rows(ids)}

    def hashes(self, ids: Sequence[str]) -> Mapping[str, bytes | None]:
        return {id: content for id, _, content in self._rows(ids)}

    def put(self, ids: Sequence[str], hashes: Sequence[bytes], part: int) -> None:
        """These ids are in this part, and in no other."""
        rows = ((id, part, content) for id, content in zip(ids, hashes, strict=True))
        self._database.executemany("INSERT OR REPLACE INTO ids VALUES (?, ?, ?)", rows)

    def commit(self, generation: int) -> None:
        """What was put since the last time agrees with the manifest of this generation."""
        for statement in (f"PRAGMA user_version = {generation:d}", "COMMIT", "BEGIN"):
            self._database.execute(statement)

    def close(self) -> None:
        """Without a commit."""
        self._database.close()

    def _rows(self, ids: Sequence[str]) -> Iterator[tuple[str, int, bytes]]:
        for start in range(0, len(ids), _ASK_IDS):
            some = ids[start : start + _ASK_IDS]
            marks = ",".join("?" * len(some))
            yield from self._database.execute(
                f"SELECT id, part, hash FROM ids WHERE id IN ({marks})",  # noqa: S608 - question marks only
                some,
            )


def open_ids(folder: Path, manifest: Manifest, ids_of: IdsOf) -> Ids:
    """The index in step with the manifest; one that is broken, or of a later manifest, is made anew."""
    try:
        return _caught_up(folder, manifest, ids_of)
    except sqlite3.OperationalError:
        raise  # the disk is full, or not ours to write
    except sqlite3.DatabaseError:
        for ending in ("", "-wal", "-shm", "-journal"):
            (folder / f"{INDEX}{ending}").unlink(missing_ok=True)
        return _caught_up(folder, manifest, ids_of)


def _caught_up(folder: Path, manifest: Manifest, ids_of: IdsOf) -> Ids:
    ids = Ids(folder)
    try:
        known = ids.generation
        if known > manifest.generation:
            raise sqlite3.DatabaseError(f"{INDEX} is of a later manifest")
        for part in manifest.parts:
            if part.generation > known:
                for some, hashes in ids_of(part):
                    ids.put(some, hashes, part.number)
        ids.commit(manifest.generation)
    except BaseException:
        ids.close()
        raise
    return ids
