"""How do rows get into a folder of parts, so that every id is there once and a commit is all or nothing?

A commit is: finish the part with the new rows, copy the parts that hold older rows of the same ids without those, sync
all of it under hidden names, replace the manifest (from here on the commit is made), and let `settle` give the parts
their names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from embedmq.bulk.errors import SinkRefused
from embedmq.bulk.rows import Shape, Vectors
from embedmq.bulk.sinks.folder.disk import sync
from embedmq.bulk.sinks.folder.ids import open_ids
from embedmq.bulk.sinks.folder.manifest import Manifest, Part, hold_against, read_manifest, write_manifest
from embedmq.bulk.sinks.folder.names import locate, refuse_strangers
from embedmq.bulk.sinks.folder.parts import Draft, Format, take
from embedmq.bulk.sinks.folder.plan import copies
from embedmq.bulk.sinks.folder.settle import refuse_damage, settle


class Store:
    """The parts as of the manifest, and the rows since. After an error of any method it can only be closed.

    Methods raise SinkRefused, OSError, sqlite3.Error.
    """

    def __init__(self, folder: Path, format: Format, shape: Shape) -> None:
        self._folder = folder
        self._format = format
        self._shape = shape
        self._manifest = _recover(folder, format, shape)
        self._generation = self._manifest.generation
        self._draft: Draft | None = None
        self._fresh: list[Part] = []
        self._touched: set[int] = set()
        self._ids = open_ids(folder, self._manifest, lambda part: format.read_ids(locate(folder, part)))

    def checkpoint(self, job: str) -> bytes | None:
        return self._manifest.checkpoints.get(job)

    def hashes(self, ids: Sequence[str]) -> Mapping[str, bytes | None]:
        return self._ids.hashes(ids)

    def write(self, vectors: Vectors) -> None:
        self._refuse_other(vectors)
        if not len(vectors):
            return
        older = set(self._ids.parts(vectors.ids).values())
        self._touched |= older
        if self._draft and self._draft.number in older:
            self._finish_draft()  # so that no part has an id twice, and its number says which row is the last
        draft = self._draft = self._draft or self._begin(self._free_number())
        draft.write(vectors)
        self._ids.put(vectors.ids, vectors.hashes, draft.number)

    def commit(self, job: str, checkpoint: bytes) -> None:
        self._finish_draft()
        parts = {part.number: part for part in (*self._manifest.parts, *self._fresh)}
        for group in copies(self._manifest.parts, self._fresh, self._touched):
            copy = self._copy(group)
            for part in group:
                del parts[part.number]
            if copy.rows:
                parts[copy.number] = copy
        for part in parts.values():
            if part.generation > self._manifest.generation:
                for path in locate(self._folder, part):
                    sync(path)
        names = {name for part in parts.values() for name in part.files}
        self._replace(
            generation=self._generation,
            parts=tuple(parts[number] for number in sorted(parts)),
            retired=tuple(name for name in self._manifest.files() if name not in names),
            checkpoints={**self._manifest.checkpoints, job: checkpoint},
        )
        settle(self._folder, self._manifest)
        self._ids.commit(self._generation)
        self._fresh.clear()
        self._touched.clear()

    def forget(self, job: str) -> None:
        """Drop a job's checkpoint; rows since the last commit are not touched."""
        self._replace(checkpoints={name: kept for name, kept in self._manifest.checkpoints.items() if name != job})

    def close(self) -> None:
        """Let go of the files; what belongs to no commit goes now or, where it cannot, when the folder is opened."""
        if self._draft:
            self._draft.abandon()
        self._ids.close()
        with contextlib.suppress(OSError, SinkRefused):
            if manifest := read_manifest(self._folder):  # the one on the disk: a commit may have failed after it
                settle(self._folder, manifest)

    def _begin(self, number: int) -> Draft:
        self._generation += 1
        return Draft(self._folder, self._format, self._shape, number, self._generation)

    def _free_number(self) -> int:
        return 1 + max((part.number for part in (*self._manifest.parts, *self._fresh)), default=-1)

    def _finish_draft(self) -> None:
        if self._draft:
            self._fresh.append(self._draft.finish())
            self._draft = None

    def _copy(self, group: Sequence[Part]) -> Part:
        """The rows that no later write replaced, in one new part with the first one's number."""
        draft = self._draft = self._begin(group[0].number)  # where `close` finds it
        for part in group:
            for living in self._living(part):
                draft.write(living)
                if part.number != draft.number:
                    self._ids.put(living.ids, living.hashes, draft.number)
        copy = draft.finish()
        self._draft = None
        return copy

    def _living(self, part: Part) -> Iterator[Vectors]:
        for block in self._format.read(locate(self._folder, part), self._shape):
            holders = self._ids.parts(block.ids)
            rows = [i for i, id in enumerate(block.ids) if holders.get(id) == part.number]
            if rows:
                yield take(block, rows)

    def _replace(self, **changes: object) -> None:
        self._manifest = msgspec.structs.replace(self._manifest, **changes)
        write_manifest(self._folder, self._manifest)

    def _refuse_other(self, vectors: Vectors) -> None:
        wanted = (len(vectors), self._shape.dimensions)
        if vectors.dense.shape != wanted or vectors.dense.dtype.name != self._shape.dtype:
            raise SinkRefused(
                f"{self._folder} takes {self._shape.dtype} {wanted}, and got {vectors.dense.dtype.name} "
                f"{vectors.dense.shape}: name another sink for them"
            )


def _recover(folder: Path, format: Format, shape: Shape) -> Manifest:
    """The manifest, with the folder as it says; a folder without parts takes any shape."""
    manifest = read_manifest(folder)
    refuse_strangers(folder, manifest)
    if manifest and manifest.parts:
        hold_against(folder, manifest, format.kind, shape)
    else:
        known = manifest or Manifest(kind=format.kind, shape=shape)
        manifest = msgspec.structs.replace(known, kind=format.kind, shape=shape)
        write_manifest(folder, manifest)
    settle(folder, manifest)
    refuse_damage(folder, manifest)
    return manifest
