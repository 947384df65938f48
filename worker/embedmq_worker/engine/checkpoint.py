"""Where is a configured checkpoint, is it safe to load, and which revision is it?"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from embedmq_schemas.limits import MIB

from embedmq_worker.config import Model
from embedmq_worker.engine import hub, null, safety, weights
from embedmq_worker.errors import CheckpointMissing, CheckpointUnsafe

FINGERPRINT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder that is safe to load; `revision` names its content in results."""

    source: str
    revision: str


def locate(text: str, *, trust_remote_code: bool = False, endpoint: str | None = None) -> Checkpoint:
    """Resolve `package:NAME/FOLDER`, `hf:ORG/NAME@REVISION` or a folder; a model of the hub is fetched if need be.

    The revision of a hub's model is its commit, also where a branch or a tag was configured.

    Raises:
        CheckpointMissing: nothing there, or a shard is not.
        CheckpointUnsafe: pickled weights, or code of its own that `trust_remote_code` does not allow.
        CheckpointBroken: configurations that cannot be read.
        RevisionMissing, CheckpointGated, CheckpointUnreachable: as the hub answers; see `hub.fetch`.
    """
    if text.startswith("hf:"):
        return examine(hub.fetch(text, code=trust_remote_code, endpoint=endpoint), text, trust_remote_code)
    return examine(_folder(text), text, trust_remote_code)


def examine(folder: Path, text: str, trust_remote_code: bool) -> Checkpoint:
    """The checkpoint in a folder that `find` found, if it is safe to load.

    Raises:
        CheckpointUnsafe, CheckpointMissing, CheckpointBroken: as `locate`.
    """
    if not any(folder.rglob("*.safetensors")):
        raise CheckpointUnsafe(f"{text}: no *.safetensors in {folder}; pickled weights can run code and are not loaded")
    safety.check(folder, text, trust_remote_code=trust_remote_code)
    files = weights.files(folder)
    return Checkpoint(str(folder), folder.name if text.startswith("hf:") else _fingerprint(folder, files))


def find(text: str) -> Path | None:
    """The folder as far as this machine has it: None for a model of the hub that is not in the cache.

    Raises:
        CheckpointMissing: no such folder or package.
        RevisionMissing: a model of the hub that is not pinned.
    """
    return hub.cached(text) if text.startswith("hf:") else _folder(text)


def expect(model: Model) -> None:
    """Look whether what is configured can be there at all, without loading or fetching anything.

    Raises:
        CheckpointInvalid: as `find` and `null.read` say.
    """
    kind, _, rest = model.checkpoint.partition(":")
    for text in model.heads if kind == "null" else (model.checkpoint, *model.heads):
        find(text)
    if kind == "null":
        null.read(rest)


def size_bytes(model: Model, where: Callable[[str], Path | None]) -> int:
    """Bytes of a configured model's weights, heads included, in memory; 0 where `where` (`find`, say) has no folder.

    Raises:
        CheckpointMissing, CheckpointBroken: as `weights.size_bytes`; and what `where` raises.
    """
    kind, _, rest = model.checkpoint.partition(":")
    if kind == "null":
        return null.read(rest).mib * MIB
    folders = [where(text) for text in (model.checkpoint, *model.heads)]
    return sum(weights.size_bytes(folder, model.dtype) for folder in folders if folder is not None)


def _folder(text: str) -> Path:
    kind, _, rest = text.partition(":")
    folder = _package_folder(text, rest) if kind == "package" else Path(text).expanduser()
    if not folder.is_dir():
        raise CheckpointMissing(f"{text}: no such folder ({folder})")
    return folder


def _package_folder(text: str, rest: str) -> Path:
    package, _, inner = rest.partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointMissing(f"{text}: the Python package {package!r} is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / inner


def _fingerprint(folder: Path, files: list[Path]) -> str:
    """Name the content: configurations whole, of weights the size and both ends, which is cheap and telling."""
    digest = hashlib.sha256()
    for path in [*sorted(folder.rglob("*.json")), *files]:
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(FINGERPRINT_BYTES))
            if size > FINGERPRINT_BYTES:
                file.seek(max(size - FINGERPRINT_BYTES, FINGERPRINT_BYTES))
                digest.update(file.read())
    return digest.hexdigest()[:12]
