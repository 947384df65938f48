"""What comes back for a request?"""

from __future__ import annotations

from msgspec import Struct, field

Rows = list[list[float | None]]
"""Rows of numbers, for readers who cannot decode bytes; a failed row is nulls."""


class Tensor(Struct, frozen=True, gc=False):
    """A block of numbers: `data` is little-endian row-major bytes (base64 in JSON), or rows when `encoding` is `array`.

    `scales` (one a row, `int8` only) gives the float back: `data * scale`. `ubinary` packs 8 dimensions a byte, so its
    `shape` counts bytes.
    """

    dtype: str
    shape: tuple[int, int]
    data: memoryview | Rows
    scales: list[float] | None = None


class Sparse(Struct, frozen=True):
    """One item's sparse vector: vocabulary `indices`, ascending, and their weights."""

    indices: list[int]
    values: list[float]


class Failure(Struct, frozen=True):
    """One item that failed while its neighbours did not."""

    index: int
    code: str
    message: str


class Timing(Struct, frozen=True, gc=False):
    """Where the time went, in milliseconds: waiting for the device, cutting into tokens, on the device."""

    queue_ms: float = 0.0
    tokenize_ms: float = 0.0
    forward_ms: float = 0.0


class Embedded(Struct, frozen=True, kw_only=True, tag_field="type", tag="embedded"):
    """Vectors for the items of one request, in its order; row `i` is void when `failures` names index `i`."""

    id: str
    model: str = ""
    revision: str = ""
    computed_in: str = ""
    count: int = 0
    dense: Tensor | None = None
    sparse: list[Sparse] | None = None
    multivector: list[Tensor] | None = None
    failures: list[Failure] = field(default_factory=list[Failure])
    tokens: list[int] = field(default_factory=list[int])
    truncated: list[int] = field(default_factory=list[int])
    meta: dict[str, str] | None = None
    item_ids: list[str] | None = None
    timing: Timing = Timing()


class Scored(Struct, frozen=True, kw_only=True, tag_field="type", tag="scored"):
    """Scores of the documents of one request, in its order; `ranking` lists indices, best first."""

    id: str
    model: str = ""
    revision: str = ""
    computed_in: str = ""
    count: int = 0
    scores: list[float | None] = field(default_factory=list[float | None])
    ranking: list[int] = field(default_factory=list[int])
    failures: list[Failure] = field(default_factory=list[Failure])
    tokens: list[int] = field(default_factory=list[int])
    truncated: list[int] = field(default_factory=list[int])
    meta: dict[str, str] | None = None
    item_ids: list[str] | None = None
    timing: Timing = Timing()


class Failed(Struct, frozen=True, kw_only=True, tag_field="type", tag="failed"):
    """The whole request failed; `fits` (with `too_large`) is the number of items that would have been accepted;
    `retry_after_s` (with `quota_exceeded`) the seconds after which the tenant's quota would take it.
    """

    id: str
    model: str = ""
    code: str = "processing_failed"
    message: str = ""
    retryable: bool = False
    attempts: int = 1
    meta: dict[str, str] | None = None
    item_ids: list[str] | None = None
    fits: int | None = None
    retry_after_s: float | None = None


Result = Embedded | Scored | Failed
