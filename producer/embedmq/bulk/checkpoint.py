"""How far is a bulk job, and may this command go on with it?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import Struct

from embedmq.bulk.errors import CheckpointRefused
from embedmq.bulk.rows import Position

VERSION = 1
Mode = Literal["all", "missing", "changed"]
State = Literal["running", "limited", "done"]


class Counts(Struct, frozen=True, kw_only=True):
    """What became of the rows so far. `read` counts rows of the source, `failed` also what could not be read as one."""

    read: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    tokens: int = 0

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(
            read=self.read + other.read,
            done=self.done + other.done,
            failed=self.failed + other.failed,
            skipped=self.skipped + other.skipped,
            tokens=self.tokens + other.tokens,
        )


class Checkpoint(Struct, frozen=True, kw_only=True):
    """What the sink keeps of a job: everything up to `position` is in it, and `failed_bytes` of the file of failures.

    `definition` is what must be the same when it goes on; `limit` the rows after which it was `limited`.
    """

    version: int = VERSION
    definition: Mapping[str, str]
    state: State = "running"
    position: Position | None = None
    counts: Counts = Counts()
    revision: str = ""
    failed_bytes: int = 0
    limit: int | None = None


_READ = msgspec.json.Decoder(Checkpoint)


def encode(checkpoint: Checkpoint) -> bytes:
    """As JSON that a person can read beside the sink."""
    return msgspec.json.encode(checkpoint)


def decode(value: bytes) -> Checkpoint:
    """Raises CheckpointRefused for what is none, or of a later version."""
    try:
        checkpoint = _READ.decode(value)
    except msgspec.MsgspecError as error:
        message = f"the checkpoint beside the sink cannot be read ({error})"
        raise CheckpointRefused(f"{message}: start over with --restart") from None
    if checkpoint.version > VERSION:
        message = f"the checkpoint beside the sink is of version {checkpoint.version}, this program reads {VERSION}"
        raise CheckpointRefused(f"{message}: update embedmq, or start over with --restart")
    return checkpoint


def proceed(kept: Checkpoint | None, fresh: Checkpoint, mode: Mode) -> Checkpoint:
    """Where a run begins, by what the sink has kept: at the start, where the last one stopped, or nowhere (`done`).

    A run that looks for what is missing or has changed begins at the start: the source may have changed since the last
    one was stopped, and what the sink has is passed over quickly.

    Raises:
        CheckpointRefused: the job was begun with other settings.
    """
    if kept is None:
        return fresh
    if (different := _differences(kept.definition, fresh.definition)) is not None:
        message = f"this job was begun with other settings ({different})"
        raise CheckpointRefused(f"{message}: give it another --name, or start over with --restart")
    if mode != "all":
        return fresh
    if kept.state == "running":
        return kept
    if kept.state == "limited" and (fresh.limit is None or fresh.limit > (kept.limit or 0)):
        return msgspec.structs.replace(kept, state="running")
    return kept


def _differences(kept: Mapping[str, str], fresh: Mapping[str, str]) -> str | None:
    names = [name for name in {**kept, **fresh} if kept.get(name, "") != fresh.get(name, "")]
    if not names:
        return None
    return ", ".join(f"{name}: {kept.get(name) or 'none'}, now {fresh.get(name) or 'none'}" for name in names)
