"""What is the whole fleet doing? Pure: the statuses of its workers go in, sums come out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from embedmq_schemas.catalogue import LaneLag, ModelStatus, WorkerStatus
from msgspec import Struct, field

NO_LAG = LaneLag()


class FleetRow(Struct, frozen=True, kw_only=True):
    """All workers together."""

    workers: int = 0
    models: int = 0
    silent_workers: int = 0
    """Of a version that says nothing of lag and rates: what follows is without them."""
    items_per_s: float = 0.0
    tokens_per_s: float = 0.0
    failed_per_s: float = 0.0
    lag: LaneLag = NO_LAG
    versions: list[str] = field(default_factory=list[str])


class ModelRow(Struct, frozen=True, kw_only=True):
    """One model over all workers that speak of it."""

    model: str
    lag: dict[str, LaneLag] = field(default_factory=dict[str, LaneLag])
    """By lane: sums, and the age of the oldest."""
    items_per_s: float = 0.0
    tokens_per_s: float = 0.0
    failed_per_s: float = 0.0
    batch_fill: float | None = None
    """Weighted by tokens; null where no worker had a batch."""
    states: dict[str, int] = field(default_factory=dict[str, int])
    """On how many workers it is `resident`, `loading`, `absent`, `failing`, or not `served`."""
    pinned: int = 0
    """On how many workers, as the two that follow."""
    paused: int = 0
    thrashing: int = 0
    errors: list[str] = field(default_factory=list[str])
    refused: dict[str, str] = field(default_factory=dict[str, str])
    """Why the last order for it was not followed, by worker."""

    @property
    def waits(self) -> LaneLag:
        """All lanes together."""
        return together(self.lag.values())


class WorkerRow(Struct, frozen=True, kw_only=True):
    """One worker."""

    id: str
    host: str = ""
    device: str = ""
    version: str = ""
    started_unix_ms: int = 0
    busy: float | None = None
    memory_bytes: int = 0
    memory_budget_bytes: int = 0
    in_flight_items: int = 0
    in_flight_bytes: int = 0
    max_in_flight_bytes: int = 0
    partitions: dict[str, int] = field(default_factory=dict[str, int])
    resident: int = 0
    """Models in memory, of …"""
    models: int = 0
    refused: dict[str, str] = field(default_factory=dict[str, str])


class View(Struct, frozen=True, kw_only=True):
    """What is shown, and what `--once --json` prints."""

    prefix: str
    read_unix_ms: int
    fleet: FleetRow
    models: list[ModelRow]
    workers: list[WorkerRow]


def look(prefix: str, workers: Sequence[WorkerStatus], now_unix_ms: int) -> View:
    """The view of these statuses; models are sorted by what waits for them, workers by name of host and id."""
    by_model: dict[str, list[tuple[str, ModelStatus]]] = {}
    for worker in workers:
        for name, status in worker.models.items():
            by_model.setdefault(name, []).append((worker.id, status))
    refused: dict[str, dict[str, str]] = {}
    for worker in workers:
        for name, why in worker.refused.items():
            refused.setdefault(name, {})[worker.id] = why
    names = sorted({*by_model, *refused})
    models = [_model(name, [status for _, status in by_model.get(name, [])], refused.get(name, {})) for name in names]
    models.sort(key=lambda row: -row.waits.tokens)
    fleet = FleetRow(
        workers=len(workers),
        models=len(models),
        silent_workers=sum(not worker.version for worker in workers),
        items_per_s=round(sum(row.items_per_s for row in models), 3),
        tokens_per_s=round(sum(row.tokens_per_s for row in models), 3),
        failed_per_s=round(sum(row.failed_per_s for row in models), 3),
        lag=together(row.waits for row in models),
        versions=sorted({worker.version for worker in workers if worker.version}),
    )
    rows = sorted(map(_worker, workers), key=lambda row: (row.host, row.id))
    return View(prefix=prefix, read_unix_ms=now_unix_ms, fleet=fleet, models=models, workers=rows)


def together(lags: Iterable[LaneLag]) -> LaneLag:
    """The sum of what waits, and the age of the oldest of it."""
    found = list(lags)
    return LaneLag(
        records=sum(lag.records for lag in found),
        tokens=sum(lag.tokens for lag in found),
        oldest_s=max((lag.oldest_s for lag in found), default=0.0),
    )


def _model(name: str, statuses: Sequence[ModelStatus], refused: dict[str, str]) -> ModelRow:
    lanes = sorted({lane for status in statuses for lane in status.lag}, reverse=True)
    states = Counter(status.state if status.served else "unserved" for status in statuses)
    return ModelRow(
        model=name,
        lag={lane: together(status.lag.get(lane, NO_LAG) for status in statuses) for lane in lanes},
        items_per_s=round(sum(status.items_per_s for status in statuses), 3),
        tokens_per_s=round(sum(status.tokens_per_s for status in statuses), 3),
        failed_per_s=round(sum(status.failed_per_s for status in statuses), 3),
        batch_fill=_fill(statuses),
        states=dict(sorted(states.items())),
        pinned=sum(status.pinned for status in statuses),
        paused=sum(status.paused for status in statuses),
        thrashing=sum(status.thrashing for status in statuses),
        errors=sorted({status.error for status in statuses if status.error}),
        refused=refused,
    )


def _fill(statuses: Iterable[ModelStatus]) -> float | None:
    filled = [(status.batch_fill, status.tokens_per_s) for status in statuses if status.batch_fill is not None]
    if not filled:
        return None
    if weight := sum(tokens for _, tokens in filled):
        return round(sum(fill * tokens for fill, tokens in filled) / weight, 3)
    return round(sum(fill for fill, _ in filled) / len(filled), 3)


def _worker(status: WorkerStatus) -> WorkerRow:
    return WorkerRow(
        id=status.id,
        host=status.host,
        device=status.device,
        version=status.version,
        started_unix_ms=status.started_unix_ms,
        busy=status.busy,
        memory_bytes=status.memory_bytes,
        memory_budget_bytes=status.memory_budget_bytes,
        in_flight_items=status.in_flight_items,
        in_flight_bytes=status.in_flight_bytes,
        max_in_flight_bytes=status.max_in_flight_bytes,
        partitions=status.partitions,
        resident=sum(model.state == "resident" for model in status.models.values()),
        models=len(status.models),
        refused=status.refused,
    )
