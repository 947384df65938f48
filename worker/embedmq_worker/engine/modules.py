"""Which modules does a checkpoint's folder hold, and what do their configurations say?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import cast

from embedmq_worker.errors import CheckpointBroken, CheckpointUnsafe

MAX_CONFIG_BYTES = 16 * 1024 * 1024
"""Largest configuration that is read; real ones have kilobytes."""


@dataclass(frozen=True, slots=True)
class Module:
    """One part of a checkpoint: the dotted name of its class ("" where transformers chooses) and its own folder."""

    type: str
    folder: Path

    @property
    def transformer(self) -> bool:
        """Whether transformers loads it, which reads shards; the other modules read one file."""
        return not self.type or self.type.endswith(("Transformer", "CLIPModel"))


def read(folder: Path) -> list[Module]:
    """What `modules.json` lists, routes of routers included; without that file the folder is one transformer.

    Raises:
        CheckpointBroken: a list that no reader could follow.
        CheckpointUnsafe: a module outside the checkpoint's folder.
    """
    if not (folder / "modules.json").is_file():
        return [Module("", folder)]
    listed = configuration(folder / "modules.json")
    if not isinstance(listed, list) or not listed:
        raise CheckpointBroken(f"{folder}: modules.json is no list of modules")
    return [module for entry in cast("list[object]", listed) for module in _module(folder, entry)]


def configuration(path: Path) -> object:
    """A configuration as plain values.

    Raises:
        CheckpointBroken: too large, or no JSON.
    """
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise CheckpointBroken(f"{path}: larger than {MAX_CONFIG_BYTES} bytes, which is no configuration")
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointBroken(f"{path}: not JSON: {error}") from error


def configurations(module: Module) -> Iterator[tuple[Path, object]]:
    """Every configuration beside a module's weights, the tokenizer's among them."""
    for path in sorted(module.folder.glob("*config*.json")):
        if path.is_file():
            yield path, configuration(path)


def _module(folder: Path, entry: object) -> Iterator[Module]:
    fields = cast("dict[str, object]", entry) if isinstance(entry, dict) else {}
    kind, place = fields.get("type"), fields.get("path")
    if not isinstance(kind, str) or not isinstance(place, str):
        raise CheckpointBroken(f"{folder}: an entry of modules.json has no type or no path")
    yield from _with_routes(folder, Module(kind, _inside(folder, folder, place)))


def _with_routes(root: Path, module: Module) -> Iterator[Module]:
    """A module, and where it is a router those that it routes to."""
    yield module
    if not module.type.endswith((".Router", ".Asym")):
        return
    for name in ("router_config.json", "config.json"):
        if (module.folder / name).is_file():
            config = configuration(module.folder / name)
            types = cast("dict[str, object]", config).get("types") if isinstance(config, dict) else None
            if not isinstance(types, dict):
                raise CheckpointBroken(f"{module.folder}: {name} names no types")
            for place, kind in cast("dict[str, object]", types).items():
                yield from _with_routes(root, Module(str(kind), _inside(root, module.folder, place)))
            return


def _inside(root: Path, folder: Path, place: str) -> Path:
    parts = PureWindowsPath(place)  # understands both separators
    if parts.anchor or ".." in parts.parts or "\0" in place:
        raise CheckpointUnsafe(f"{root}: a module lies outside the checkpoint's folder: {place!r}")
    return folder / place
