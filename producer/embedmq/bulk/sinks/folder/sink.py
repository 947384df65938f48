"""How is a folder of parts a sink of a bulk job: one writer at a time, and errors that say what to do?"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from embedmq.bulk.errors import SinkRefused
from embedmq.bulk.rows import Columns, Shape, Vectors
from embedmq.bulk.sinks.folder.disk import sync
from embedmq.bulk.sinks.folder.lock import Lock
from embedmq.bulk.sinks.folder.manifest import read_manifest
from embedmq.bulk.sinks.folder.names import local_path, refuse_strangers
from embedmq.bulk.sinks.folder.parts import Format
from embedmq.bulk.sinks.folder.refusal import refusal
from embedmq.bulk.sinks.folder.store import Store

OWN_COLUMNS = ("id", "vector", "content_hash")


class FolderSink:
    """`embedmq.bulk.ports.Sink` over files, of one format."""

    at_least_once = False

    def __init__(self, uri: str, columns: Columns, format: Format) -> None:
        """Raises SinkRefused for an address elsewhere, and for kept columns with names of our own."""
        self._folder = local_path(uri, format.kind)
        self._format = format
        self._lock: Lock | None = None
        self._store: Store | None = None
        if taken := [name for name in columns.keep if name in OWN_COLUMNS]:
            raise SinkRefused(f"{uri} has columns {', '.join(OWN_COLUMNS)} of its own: do not keep {', '.join(taken)}")

    def is_there(self) -> bool:
        with self._refusing():
            return self._folder.exists()

    def open(self, job: str, shape: Shape) -> None:
        self._job = job
        self._shape = shape
        with self._refusing():
            created = _create(self._folder)
            self._lock = Lock(self._folder)
            if created:
                sync(self._folder.parent)
            self._recovered()

    def load(self) -> bytes | None:
        with self._refusing():
            return self._recovered().checkpoint(self._job)

    def hashes(self, ids: Sequence[str]) -> Mapping[str, bytes | None]:
        with self._refusing():
            return self._recovered().hashes(ids)

    def write(self, vectors: Vectors) -> None:
        with self._refusing():
            self._recovered().write(vectors)

    def commit(self, checkpoint: bytes) -> None:
        with self._refusing():
            self._recovered().commit(self._job, checkpoint)

    def clear(self) -> None:
        with self._refusing():
            self._recovered().forget(self._job)

    def close(self) -> None:
        try:
            self._forsake()
        finally:
            if self._lock:
                self._lock.release()
                self._lock = None

    def _recovered(self) -> Store:
        """The store, opened anew after an error: it is as of the last commit then."""
        self._store = self._store or Store(self._folder, self._format, self._shape)
        return self._store

    def _forsake(self) -> None:
        store, self._store = self._store, None
        if store:
            store.close()

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except SinkRefused:
            self._forsake()
            raise
        except (OSError, sqlite3.Error, UnicodeEncodeError, OverflowError) as error:
            self._forsake()
            raise refusal(self._folder, error) from error


def _create(folder: Path) -> bool:
    """Make the folder unless it is there; look before anything is touched whether it is one of ours."""
    if folder.exists():
        refuse_strangers(folder, read_manifest(folder))
        return False
    folder.mkdir(parents=True)
    return True
