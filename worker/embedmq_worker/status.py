"""What does this worker say of itself? Values of its parts, put together: nothing is decided here."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import islice

from embedmq_schemas.catalogue import LaneLag, ModelStatus, WorkerStatus
from embedmq_schemas.names import Names
from embedmq_schemas.requests import LANES, Lane

from embedmq_worker.config import Config
from embedmq_worker.lag import Stand, lags
from embedmq_worker.rates import Rate
from embedmq_worker.residents import ModelState
from embedmq_worker.road import Road

IDLE = Rate()
MOST_REFUSED = 100
"""Models that are named whose last order is not followed."""


class Status:
    """One worker's status: linear in its models and partitions, so that it may be asked for every few seconds."""

    def __init__(self, config: Config, names: Names, worker_id: str, road: Road) -> None:
        self._config = config
        self._names = names
        self._worker_id = worker_id
        self._road = road
        self._started_unix_ms = int(time.time() * 1000)
        self._version = version("embedmq")
        self._host = socket.gethostname()

    def now(self) -> WorkerStatus:
        """As of now."""
        road, settings = self._road, self._config.worker
        stands = [stand for source in road.sources for stand in source.stands()]
        states = {name: state for name, state in road.residents.states().items() if name in road.roster}
        held = road.room.held
        return WorkerStatus(
            id=self._worker_id,
            host=self._host,
            started_unix_ms=self._started_unix_ms,
            device=settings.device,
            models=self._models(states, stands),
            version=self._version,
            partitions={source.reader: source.partitions for source in road.sources},
            busy=round(road.meter.busy.ratio(), 3),
            memory_bytes=sum(state.bytes for state in states.values() if state.state in ("resident", "loading")),
            memory_budget_bytes=road.residents.budget_bytes,
            in_flight_items=held.items,
            in_flight_bytes=held.bytes,
            max_in_flight_bytes=settings.max_in_flight_bytes,
            control_offset=road.roster.offset,
            refused=dict(islice(road.roster.refused.items(), MOST_REFUSED)),
        )

    def _models(self, states: Mapping[str, ModelState], stands: Sequence[Stand]) -> dict[str, ModelStatus]:
        meter = self._road.meter
        roster = self._road.roster
        shared = [name for name in states if roster[name].shared and roster.serves(name)]
        meter.shares.decay()
        now_unix_ms = time.time() * 1000
        lag = lags(stands, self._names, shared, meter.shares, meter.tokens_per_request, now_unix_ms)
        unread, waiting = Counter[str](), self._road.waiting.tokens()
        for stand in stands:
            unread[stand.topic] += stand.unread
        rates = meter.rates.now()
        return {
            name: self._model(
                name, state, self._waits_s(name, waiting, unread), lag.get(name, {}), rates.get(name, IDLE)
            )
            for name, state in states.items()
        }

    def _model(
        self, name: str, state: ModelState, wait_s: dict[str, float], lag: dict[str, LaneLag], rate: Rate
    ) -> ModelStatus:
        facts = self._road.residents.facts(name)
        return ModelStatus(
            state=state.state,
            pinned=state.pinned,
            served=self._road.roster.serves(name),
            entry=self._road.roster.entry(name),
            bytes=state.bytes,
            wait_s=wait_s,
            path=facts.path if facts else "",
            reason=facts.reason if facts else "",
            computed_in=facts.computed_in if facts else "",
            idle_s=None if state.last_use_s is None else round(time.monotonic() - state.last_use_s, 3),
            loads=state.loads,
            evictions=state.evictions,
            failures=state.failures,
            error=state.error,
            thrashing=state.thrashing,
            revision=facts.revision if facts else "",
            paused=self._road.gathering.pauses.holds(name),
            lag=lag,
            items_per_s=rate.items_per_s,
            tokens_per_s=rate.tokens_per_s,
            failed_per_s=rate.failed_per_s,
            batch_fill=rate.batch_fill,
        )

    def _waits_s(
        self, model: str, waiting: Mapping[tuple[str, Lane], int], unread: Mapping[str, int]
    ) -> dict[str, float]:
        """What clients are told to expect: tokens that wait here and in Kafka, by the rate of late."""
        meter, roster = self._road.meter, self._road.roster
        tokens_per_s, shared = meter.tokens_per_s.get(model), roster[model].shared
        if tokens_per_s is None or not roster.serves(model):
            return {}
        waits_s: dict[str, float] = {}
        for lane in LANES:
            topic = self._names.shared(lane) if shared else self._names.requests(model, lane)
            behind = unread.get(topic, 0) * meter.tokens_per_request.get(model, 0.0)
            waits_s[lane] = round((waiting.get((model, lane), 0) + behind) / tokens_per_s, 3)
        return waits_s
