"""Where is a configured checkpoint, is it safe to load, and which revision is it?"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from embedmq_worker.errors import CheckpointInvalid

FINGERPRINT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder, or a model of the hub at one revision; `revision` names its content in results."""

    source: str
    revision: str
    hub: bool = False


def locate(text: str) -> Checkpoint:
    """Resolve `package:NAME/FOLDER`, `hf:ORG/NAME@REVISION` or a folder.

    Raises:
        CheckpointInvalid: nothing there, no safetensors, or a hub model without a revision.
    """
    kind, _, rest = text.partition(":")
    if kind == "hf":
        name, _, revision = rest.partition("@")
        if not name or not revision:
            raise CheckpointInvalid(
                f"{text}: pin the revision, as in hf:org/name@0123abc, so that vectors stay the same"
            )
        return Checkpoint(name, revision, hub=True)
    folder = _package_folder(text, rest) if kind == "package" else Path(text).expanduser()
    if not folder.is_dir():
        raise CheckpointInvalid(f"{text}: no such folder ({folder})")
    weights = sorted(folder.rglob("*.safetensors"))
    if not weights:
        raise CheckpointInvalid(
            f"{text}: no *.safetensors in {folder}; pickled weights can run code and are not loaded"
        )
    return Checkpoint(str(folder), _fingerprint(folder, weights))


def _package_folder(text: str, rest: str) -> Path:
    package, _, inner = rest.partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointInvalid(f"{text}: the Python package {package!r} is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / inner


def _fingerprint(folder: Path, weights: list[Path]) -> str:
    """Name the content: configurations whole, of weights the size and both ends, which is cheap and telling."""
    digest = hashlib.sha256()
    for path in [*sorted(folder.rglob("*.json")), *weights]:
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(FINGERPRINT_BYTES))
            if size > FINGERPRINT_BYTES:
                file.seek(max(size - FINGERPRINT_BYTES, FINGERPRINT_BYTES))
                digest.update(file.read())
    return digest.hexdigest()[:12]
