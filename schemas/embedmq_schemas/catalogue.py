"""What do workers publish, so that clients find topics, limits and estimated waits?"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from embedmq_schemas.codec import read_with
from embedmq_schemas.limits import Limits

CATALOGUE_TTL_S: Final = 90
"""How long a model's entry outlives the last worker that wrote it."""
STATUS_PERIOD_S: Final = 5
STATUS_TTL_S: Final = 20


class ModelEntry(Struct, frozen=True, kw_only=True):
    """What the fleet serves under one name (`<prefix>:model:<name>`)."""

    name: str
    shared: bool = False
    outputs: list[str] = msgspec.field(default_factory=lambda: ["dense"])
    scores: bool = False
    dimensions: int = 0
    max_tokens: int = 0
    revision: str = ""
    limits: Limits = Limits()


class LaneLag(Struct, frozen=True, kw_only=True):
    """What waits for one model in the partitions that one worker reads: the sum over workers is the fleet's."""

    records: int = 0
    tokens: int = 0
    """An estimate: records by the mean tokens of late."""
    oldest_s: float = 0.0
    """Age of the oldest record that has no outcome yet, in seconds."""


class ModelStatus(Struct, frozen=True, kw_only=True):
    """One model on one worker; `wait_s` estimates, by lane, how long a request sent now would wait."""

    state: str
    """`resident`, `loading`, `absent` or `failing`."""
    pinned: bool = False
    bytes: int = 0
    wait_s: dict[str, float] = msgspec.field(default_factory=dict[str, float])
    path: str = ""
    """Which way through the engine its batches take, …"""
    reason: str = ""
    """… and why."""
    computed_in: str = ""
    idle_s: float | None = None
    """Seconds since its last batch; null before the first."""
    loads: int = 0
    evictions: int = 0
    failures: int = 0
    """How often it could not be loaded, …"""
    error: str = ""
    """… and why it cannot be now."""
    thrashing: bool = False
    """Whether it is loaded and evicted so often that the memory budget is too small for what is asked."""
    served: bool = True
    """Whether its topics are read here; a model that is allowed and not served waits to be asked for."""
    entry: str = ""
    """The entry of the configuration whose checkpoint answers under this name, where it is not the name's own."""
    revision: str = ""
    """Of what is in memory, or was last."""
    paused: bool = False
    """Whether the guard keeps it from being run, since it fails."""
    lag: dict[str, LaneLag] = msgspec.field(default_factory=dict[str, LaneLag])
    """By lane; a model on the shared topics has a share of what waits there only by what was read of late."""
    items_per_s: float = 0.0
    """Items answered a second, over the last minute, as the three that follow."""
    tokens_per_s: float = 0.0
    failed_per_s: float = 0.0
    """Items and requests that failed."""
    batch_fill: float | None = None
    """Tokens of its batches by what they might have held; null without batches."""


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """What one worker is doing (`<prefix>:worker:<id>`, written every `STATUS_PERIOD_S`)."""

    id: str
    host: str = ""
    started_unix_ms: int = 0
    device: str = ""
    models: dict[str, ModelStatus] = msgspec.field(default_factory=dict[str, ModelStatus])
    version: str = ""
    """Of EmbedMQ."""
    partitions: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    """How many it reads, by consumer group: `interactive`, `bulk`, `retry`."""
    busy: float | None = None
    """Part of the last minute in which the device computed; null before the first."""
    memory_bytes: int = 0
    """Taken by models."""
    memory_budget_bytes: int = 0
    in_flight_items: int = 0
    in_flight_bytes: int = 0
    max_in_flight_bytes: int = 0
    control_offset: int = -1
    """The last record of the control topic that was heeded; -1 before the first."""
    refused: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    """Models whose last order was not followed here, and why."""


class _LimitsRead(Limits, frozen=True, forbid_unknown_fields=False):
    """Limits are strict in a worker's file, where a misspelt one must be seen, but not those of a later worker."""


class _ModelEntryRead(ModelEntry, frozen=True, kw_only=True):
    limits: _LimitsRead = _LimitsRead()


_MODEL: Final = msgspec.json.Decoder(_ModelEntryRead)
_JSON: Final = msgspec.json.Encoder()
_WORKER: Final = msgspec.json.Decoder(WorkerStatus)


def encode(entry: ModelEntry | WorkerStatus) -> bytes:
    """Encode for Redis, as JSON that a person can read there."""
    return _JSON.encode(entry)


def decode_model(value: bytes) -> ModelEntry:
    """Decode a catalogue entry, tolerantly; raises `msgspec.MsgspecError` when it is none."""
    return msgspec.convert(read_with(_MODEL, value), ModelEntry, from_attributes=True)


def decode_worker(value: bytes) -> WorkerStatus:
    """Decode a worker's status, tolerantly; raises `msgspec.MsgspecError` when it is none."""
    return read_with(_WORKER, value)
