"""What do metrics say before anything happens, and gauges at the moment that somebody reads them?"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from embedmq_schemas.codes import CODES
from embedmq_schemas.names import READERS
from embedmq_schemas.requests import LANES

from embedmq_worker.config import Config
from embedmq_worker.engine.devices import used_and_total_bytes
from embedmq_worker.health import Health
from embedmq_worker.metrics import Metrics
from embedmq_worker.road import Road

COUNTED: Final[Mapping[str, tuple[str, ...]]] = {
    "records_lost_total": READERS,
    "dead_letters_total": tuple(code for code, facts in CODES.items() if facts.dead_letter),
    "cache_failures_total": ("read", "write"),
}
"""Failures that have few labels, by their values: 0 from the start, since Prometheus sees no increase in a series that
begins with the failure. Those of models would be too many."""


def describe(metrics: Metrics, config: Config) -> None:
    """What stays so for as long as the process lives, and what is counted from 0."""
    for name, values in COUNTED.items():
        for value in values:
            metrics.count(name, 0, value)
    versions = (_version("embedmq"), platform.python_version(), _version("torch"))
    metrics.set("worker_info", 1, config.prefix, *versions, config.worker.device)


def refresh(metrics: Metrics, health: Health, road: Road | None, device: str) -> None:
    """Bring them up to date; `road` is None while the worker starts. Called in a thread of its own: it only reads."""
    metrics.set("ready", float(health.ready()[0]))
    if (memory := used_and_total_bytes(device)) is not None:
        for state, size_bytes in zip(("used", "total"), memory, strict=True):
            metrics.set("device_memory_bytes", size_bytes, state)
    if road is not None:
        _room(metrics, road)
        _world(metrics, road)
        _models(metrics, road)


def _room(metrics: Metrics, road: Road) -> None:
    metrics.set("in_flight_bytes", road.room.held.bytes)
    metrics.set("in_flight_bytes_peak", road.room.peak_bytes)
    metrics.set("in_flight_items", road.room.held.items)
    for lane in LANES:
        metrics.set("room_used_ratio", road.room.used_ratio(lane), lane)


def _world(metrics: Metrics, road: Road) -> None:
    metrics.set("world_away_seconds", road.delivery.redis.away_s, "redis")
    kafka_s = max(road.delivery.topics.away_s, *(source.away_s for source in road.sources))
    metrics.set("world_away_seconds", kafka_s, "kafka")
    for source in road.sources:
        metrics.set("assigned_partitions", source.partitions, source.reader)


def _models(metrics: Metrics, road: Road) -> None:
    metrics.set("memory_budget_bytes", road.residents.budget_bytes)
    states = road.residents.states()  # of a model that is served no more, nothing is said
    metrics.set_all("model_loaded", {(name,): float(state.state == "resident") for name, state in states.items()})
    metrics.set_all("model_bytes", {(name,): state.bytes for name, state in states.items()})
    metrics.set_all("model_thrashing", {(name,): float(state.thrashing) for name, state in states.items()})
    metrics.set_all("waiting_for_model", {(name,): road.gathering.absent.count(name) for name in states})


def _version(package: str) -> str:
    """As installed; a source tree or a worker without torch has none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
