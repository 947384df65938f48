"""How does a folder become what its manifest says, after a commit or after a kill?"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from embedmq.bulk.errors import SinkRefused
from embedmq.bulk.sinks.folder.disk import new_name, sync
from embedmq.bulk.sinks.folder.manifest import MANIFEST, Manifest, Part
from embedmq.bulk.sinks.folder.names import hidden_files, hidden_name


def settle(folder: Path, manifest: Manifest) -> None:
    """Give parts their names, delete what was replaced and what belongs to no commit.

    Whoever reads meanwhile finds no id twice: replaced files go first, then parts that lost rows take their old place,
    then new parts appear. Safe to be killed in and to be called again.
    """
    hidden = set(hidden_files(folder))
    ours = {hidden_name(name, part.generation) for part in manifest.parts for name in part.files}
    waiting = [part for part in manifest.parts if not hidden.isdisjoint(_hidden(folder, part).values())]
    gone = [new_name(folder / MANIFEST), *(folder / name for name in manifest.retired)]
    changed = _delete([*gone, *(path for path in sorted(hidden) if path.name not in ours)])
    for part in sorted(waiting, key=lambda part: not any((folder / name).exists() for name in part.files)):
        _place(folder, part)
    if changed or waiting:
        sync(folder)


def refuse_damage(folder: Path, manifest: Manifest) -> None:
    """Raise SinkRefused where a part is missing or has another size than was committed."""
    for name, size in manifest.files().items():
        path = folder / name
        there = path.stat().st_size if path.exists() else None
        if there != size:
            found = "is missing" if there is None else f"has {there} bytes"
            raise SinkRefused(
                f"{path} {found}, and {size} were committed: bring it back from a copy, or delete the folder to write "
                "all of it anew"
            )


def _place(folder: Path, part: Part) -> None:
    """A part of one file takes its old one's place at once; of several, the first is there only with its own others."""
    hidden = {name: path for name, path in _hidden(folder, part).items() if path.exists()}
    if len(part.files) > 1:
        _delete(folder / name for name in hidden)
    for name, path in reversed(hidden.items()):
        os.replace(path, folder / name)


def _hidden(folder: Path, part: Part) -> dict[str, Path]:
    return {name: folder / hidden_name(name, part.generation) for name in part.files}


def _delete(paths: Iterable[Path]) -> bool:
    there = [path for path in paths if path.exists()]
    for path in there:
        os.unlink(path)
    return bool(there)
