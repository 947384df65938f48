"""How does a model of a hub become a folder on this machine?

What is cached is used; of a pinned commit that is complete, nothing is asked. The endpoint, the cache, the token and
whether to go online at all are huggingface_hub's own settings (`HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN`,
`HF_HUB_OFFLINE`), read by it from the environment.
"""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path

from embedmq_worker.errors import (
    CheckpointGated,
    CheckpointMissing,
    CheckpointUnreachable,
    RevisionMissing,
    WorkerError,
)

TIMEOUT_S = 10.0
"""How long the hub may take to say that it has the model."""

DATA = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
"""What is fetched: weights that cannot run code, configurations, vocabularies. Never a pickle."""

COMMIT = re.compile(r"[0-9a-f]{40}")


def parse(text: str) -> tuple[str, str]:
    """Name and revision of `hf:ORG/NAME@REVISION`.

    Raises:
        RevisionMissing: it is not pinned.
    """
    name, _, revision = text.removeprefix("hf:").partition("@")
    if not name or not revision:
        raise RevisionMissing(f"{text}: pin the revision, as in hf:org/name@0123abc, so that vectors stay the same")
    return name, revision


def cached(text: str, *, cache: Path | None = None) -> Path | None:
    """Where a model lies that was fetched before; nobody is asked. None where it, or a part of it, is not there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    name, revision = parse(text)
    try:
        return Path(
            snapshot_download(name, revision=revision, cache_dir=cache, local_files_only=True, allow_patterns=DATA)
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def fetch(text: str, *, code: bool = False, endpoint: str | None = None, cache: Path | None = None) -> Path:
    """The folder of a model, named by its commit; downloaded if need be, Python code only with `code`.

    Raises:
        CheckpointMissing: the hub has no such model, or does not show it to this token.
        RevisionMissing: it has the model, but not this revision.
        CheckpointGated: its owner wants to know who asks.
        CheckpointUnreachable: the hub or the disk failed, and the model is not in the cache.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # the log is lines of JSON
    name, revision = parse(text)
    here = cached(text, cache=cache)
    started_s = time.time()
    try:
        if here is None or not COMMIT.fullmatch(revision):
            # snapshot_download would ask the same, but wait for ever
            HfApi(endpoint=endpoint).model_info(name, revision=revision, timeout=TIMEOUT_S)
        patterns = [*DATA, *(["*.py"] if code else [])]
        folder = snapshot_download(name, revision=revision, cache_dir=cache, endpoint=endpoint, allow_patterns=patterns)
    except Exception as error:  # its own, those of two HTTP libraries by version, and the disk's
        found = _named(error, text)
        if here is not None and isinstance(found, CheckpointUnreachable):
            return here
        raise found from None  # not chained: what the libraries say may quote the token
    _verify(Path(folder), text, started_s)
    return Path(folder)


def _named(error: Exception, text: str) -> WorkerError:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    asked = error if isinstance(error, HfHubHTTPError) else error.__cause__  # it hides the answer behind its own words
    status = asked.response.status_code if isinstance(asked, HfHubHTTPError) else 0
    if isinstance(asked, RevisionNotFoundError):
        return RevisionMissing(f"{text}: the hub has this model, but no such revision")
    if isinstance(asked, GatedRepoError) or status == 403:
        return CheckpointGated(f"{text}: gated: accept its terms on the hub, and set HF_TOKEN to a token of who did")
    if isinstance(asked, RepositoryNotFoundError) or status == 404:
        return CheckpointMissing(f"{text}: the hub knows no such model; if it is a private one, set HF_TOKEN")
    if status == 401:
        return CheckpointGated(f"{text}: the hub does not accept the token in HF_TOKEN")
    if isinstance(error, HFValidationError):
        return CheckpointMissing(f"{text}: not a name that a hub could have; the form is hf:org/name@revision")
    if isinstance(error, OfflineModeIsEnabled) or isinstance(asked, OfflineModeIsEnabled):
        return CheckpointUnreachable(
            f"{text}: not in the cache, and HF_HUB_OFFLINE is set: fetch it first or unset that"
        )
    return CheckpointUnreachable(f"{text}: {_what(error, asked, status)}; not in the cache either")


def _what(error: Exception, asked: BaseException | None, status: int) -> str:
    """Why it could not be reached, in words that quote nothing that was sent."""
    if status:
        return f"the hub answered with status {status}"
    if isinstance(error, OSError) and error.strerror:
        return f"writing it failed: {error.strerror}"
    return f"the hub did not answer in full ({type(asked or error).__name__}): see HF_ENDPOINT and the network"


def _verify(folder: Path, text: str, since_s: float) -> None:
    """Compare what was just downloaded with its name in the cache, which is its checksum; huggingface_hub compares
    only sizes.

    Raises:
        CheckpointUnreachable: it differs; it was removed, so that it is fetched anew.
    """
    for link in folder.rglob("*"):
        blob = link.resolve()
        if link.is_symlink() and blob.is_file() and blob.stat().st_mtime >= since_s - 1:
            wanted = Path(link.readlink()).name
            if len(wanted) in (40, 64) and _checksum(blob, sha256=len(wanted) == 64) != wanted:
                blob.unlink()
                link.unlink()
                raise CheckpointUnreachable(f"{text}: {link.name} arrived with other bytes than the hub has")


def _checksum(blob: Path, *, sha256: bool) -> str:
    """As the hub names files: git's SHA-1 of small ones, the SHA-256 of large ones."""
    digest = hashlib.sha256() if sha256 else hashlib.sha1(b"blob %d\0" % blob.stat().st_size, usedforsecurity=False)
    with blob.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
