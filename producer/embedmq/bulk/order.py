"""What is a bulk job told to do?"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Struct

from embedmq.bulk.checkpoint import Mode
from embedmq.bulk.rows import BulkDtype, Columns
from embedmq.bulk.status import redact
from embedmq.errors import InvalidRequest

if TYPE_CHECKING:
    from embedmq.requests import EmbedOptions

OnFlaw = Literal["continue", "stop"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:")
_WORD = re.compile(r"[^A-Za-z0-9]+")


class Order(Struct, frozen=True, kw_only=True):
    """One bulk job: what is embedded, from where to where, and within which limits.

    `rows_per_request` rows travel together, `rows_in_flight` are sent and not yet written. A commit to the sink comes
    after `commit_rows` rows or `commit_s` seconds, whichever is first: that much is embedded again after a kill.
    """

    model: str
    source: str
    sink: str
    name: str
    columns: Columns = Columns()
    prompt_name: str | None = None
    prompt: str | None = None
    dimensions: int | None = None
    dtype: BulkDtype = "float32"
    normalize: bool | None = None
    truncate: bool = True
    tenant: str = ""
    mode: Mode = "all"
    limit: int | None = None
    restart: bool = False
    on_error: OnFlaw = "continue"
    max_failures: float = inf
    rows_per_s: float = inf
    failed: Path
    rows_per_request: int = 64
    rows_in_flight: int = 2_048
    commit_rows: int = 50_000
    commit_s: float = 30.0
    patience_s: float = 300.0
    """How long source, sink or fleet may be away before the job ends; it can go on later."""

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise InvalidRequest(f"name: {self.name!r}: letters, digits, dots, dashes and underscores, at most 64")
        if not is_remote(self.source) and Path(self.source).expanduser().resolve() == self.failed.resolve():
            raise InvalidRequest(f"{self.failed} is the source, and would be written over: name another with --failed")

    @property
    def to_go_on(self) -> str:
        """What goes on with this job, for a person."""
        return "the same command without --restart goes on" if self.restart else "the same command goes on"

    def definition(self) -> Mapping[str, str]:
        """What must be the same for a job to go on, as text, without secrets."""
        columns = self.columns
        found = {
            "model": self.model,
            "source": place(self.source),
            "sink": redact(self.sink) if is_remote(self.sink) else Path(self.sink).name,
            "text": columns.text,
            "id": columns.id,
            "keep": ", ".join(columns.keep),
            **self.options(),
        }
        return {name: str(value) for name, value in found.items() if value not in (None, "", ())}

    def settings(self, revision: str) -> bytes:
        """A digest of all that a vector depends on beside the text."""
        options = {name: value for name, value in self.options().items() if name != "tenant"}
        told = msgspec.json.encode({"model": self.model, "revision": revision, **options}, order="sorted")
        return hashlib.blake2b(told, digest_size=32).digest()

    def options(self) -> EmbedOptions:
        """What is asked for every row, by the names of `Client.embed`."""
        return {
            "prompt_name": self.prompt_name,
            "prompt": self.prompt,
            "dimensions": self.dimensions,
            "dtype": self.dtype,
            "normalize": self.normalize,
            "truncate": self.truncate,
            "tenant": self.tenant,
        }


def name_for(model: str, source: str, sink: str) -> str:
    """The name of a job that was given none: readable, and the same for the same model, source and sink."""
    word = _WORD.sub("-", place(source).partition("?")[0].rpartition("/")[2].partition(".")[0]).strip("-") or "job"
    told = "\0".join((model, place(source), place(sink))).encode("utf-8", "replace")
    return f"{word[:32]}-{model[:20]}-{hashlib.blake2b(told, digest_size=3).hexdigest()}"


def place(address: str) -> str:
    """An address wherever the command runs: without secrets, and a path from the root on."""
    return redact(address) if is_remote(address) else str(Path(address).expanduser().absolute())


def is_remote(address: str) -> bool:
    """Whether an address has a scheme, and so means the same everywhere."""
    return _SCHEME.match(address) is not None
