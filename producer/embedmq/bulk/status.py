"""What does a bulk job say of itself, and what is to be believed of it?"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

import msgspec
from embedmq_schemas.codec import read_with
from embedmq_schemas.connection import REDACTED
from msgspec import Meta, Struct

State = Literal["running", "paused", "waiting", "done", "failed", "cancelled", "interrupted"]
"""`waiting`: for a source, a sink or the fleet that is away. `interrupted`: ended by Ctrl-C or a kill; the same command
goes on.
"""
LIVE: Final[frozenset[State]] = frozenset({"running", "paused", "waiting"})
"""States that want a process."""
Wish = Literal["pause", "resume", "cancel"]
WISHES: Final[tuple[Wish, ...]] = ("pause", "resume", "cancel")
UnixS = Annotated[float, Meta(ge=0, le=1e11)]


class JobStatus(Struct, frozen=True, kw_only=True):
    """A bulk job at one moment (`<prefix>:job:<name>`). Counts are of its whole life, over all its runs."""

    name: str
    state: State
    model: str = ""
    source: str = ""
    """Where it reads, and …"""
    sink: str = ""
    """… writes: whatever address is given, kept as `redact` shows it."""
    rows_done: int = 0
    """Rows whose vectors are in the sink."""
    rows_failed: int = 0
    rows_skipped: int = 0
    """Rows that needed no vector: the sink had it."""
    rows_total: int | None = None
    """Null where the source cannot tell."""
    tokens: int = 0
    rate_per_s: float = 0.0
    """Rows dealt with in a second, by `embedmq.bulk.pace.Pace`."""
    left_s: float | None = None
    message: str = ""
    """What it waits for, or why it ended."""
    host: str = ""
    pid: int = 0
    started_unix_s: UnixS = 0.0
    """When this run began."""
    updated_unix_s: UnixS = 0.0

    def __post_init__(self) -> None:
        for field in ("source", "sink"):
            msgspec.structs.force_setattr(self, field, redact(getattr(self, field)))

    @property
    def rows(self) -> int:
        """Rows dealt with, in whichever way."""
        return self.rows_done + self.rows_failed + self.rows_skipped


_STATUS: Final = msgspec.json.Decoder(JobStatus)
_JSON: Final = msgspec.json.Encoder()

_PASSWORD: Final = re.compile(r"(://[^:/?#@\[]*):(?:[^?]*|(?!\d*(?:[/?#,]|$)).*)@", re.DOTALL)
"""From the user to the last `@` of the address; one that stands after a `?` counts where what follows the colon is no
port, since then the password has a `?` itself.
"""
_SECRET: Final = re.compile(
    r"([?&;#][^=&;#?]*(?:pass(?:word|wd|phrase)|pwd|secret|token(?!s)|credential|signature"
    r"|(?:api|access|private|auth|account|shared)[-_.]?key)[^=&;#?]*=)[^&]*",
    re.IGNORECASE,
)


def redact(uri: str) -> str:
    """An address that may be shown: passwords and values that look secret replaced, all else as it was."""
    return _SECRET.sub(rf"\1{REDACTED}", _PASSWORD.sub(rf"\1:{REDACTED}@", uri, count=1))


def encode(status: JobStatus) -> bytes:
    """Encode for Redis and for programs, as JSON."""
    return _JSON.encode(status)


def decode(value: bytes) -> JobStatus | None:
    """Decode a status, passing over fields of later versions; None for what is none."""
    try:
        return read_with(_STATUS, value)
    except msgspec.MsgspecError:
        return None


def judge(status: JobStatus, *, held: bool) -> JobStatus:
    """What is to be believed: a job that says it is at work, and that no process holds, was interrupted."""
    if held or status.state not in LIVE:
        return status
    return msgspec.structs.replace(status, state="interrupted", rate_per_s=0.0, left_s=None)


def obeyed(wish: Wish, state: State) -> bool:
    """Whether a job in `state` is as somebody wished it."""
    match wish:
        case "pause":
            return state == "paused"
        case "resume":
            return state in ("running", "waiting")
        case "cancel":
            return state == "cancelled"
