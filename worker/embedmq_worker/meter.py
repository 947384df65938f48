"""What happened, in numbers and in the log?"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from embedmq_schemas.names import Reader
from embedmq_schemas.results import Failed

from embedmq_worker.choose import Budget
from embedmq_worker.engine.seam import ModelFacts
from embedmq_worker.jobs import Batch, Ending, Job, Outcome
from embedmq_worker.lag import Shares
from embedmq_worker.metrics import Metrics
from embedmq_worker.plan import Plan
from embedmq_worker.rates import Busy, Done, Rates
from embedmq_worker.supply import Supplied
from embedmq_worker.trace import Trace

SMOOTHING = 0.2
"""Weight of the newest batch in the running rate."""
TELLING_FILL = 0.5
"""Fill from which on a batch says how fast the device is."""

log = logging.getLogger(__name__)


class Meter:
    """Counts what passes each stage; the running rates are what clients are told to expect."""

    def __init__(
        self,
        metrics: Metrics,
        models: Collection[str],
        budgets: Mapping[str, Budget],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`models` are those that the worker has at any moment; `budgets` gains one for each model that is loaded."""
        self._metrics = metrics
        self._models = models
        self._budgets = budgets
        self._ways: dict[str, tuple[str, str]] = {}
        self._on_device: set[str] = set()
        self.tokens_per_s: dict[str, float] = {}
        self.tokens_per_request: dict[str, float] = {}
        self.rates, self.busy, self.shares = Rates(clock), Busy(clock), Shares(clock)

    @property
    def speeds(self) -> dict[str, float]:
        """What the device computes in a second, in tokens, by model; without those that do without it: what their
        batches take says how busy the host was.
        """
        return {model: speed for model, speed in self.tokens_per_s.items() if model in self._on_device}

    def loaded(self, model: str, facts: ModelFacts, load_s: float) -> None:
        """A model is resident; what was measured of it earlier still holds."""
        if facts.tokens_per_s < float("inf"):
            self._on_device.add(model)
        self.tokens_per_s.setdefault(model, facts.tokens_per_s)
        self._metrics.count("model_loads_total", 1, model)
        self._metrics.observe("model_load_seconds", load_s, model)
        if (before := self._ways.get(model)) is not None:
            self._metrics.set("model_path", 0, model, *before)
        self._ways[model] = (facts.path, facts.computed_in)
        self._metrics.set("model_path", 1, model, facts.path, facts.computed_in)

    def absent(self, model: str) -> None:
        """The first request came for a model that is not resident."""
        log.info("waiting_for_model", extra={"model": model})

    def evicted(self, model: str) -> None:
        """A model made room for another."""
        self._metrics.count("model_evictions_total", 1, model)

    def repointed(self, model: str) -> None:
        """Another checkpoint answers for a model: what was measured of the one before holds no longer."""
        self.tokens_per_s.pop(model, None)
        self.tokens_per_request.pop(model, None)
        self._on_device.discard(model)

    def unavailable(self, model: str, error: Exception, requests: int) -> None:
        """A model could not be loaded, and so many requests were answered so."""
        self._metrics.count("model_load_failures_total", 1, model, type(error).__name__)
        log.error("model_unavailable", extra={"model": model, "error": str(error), "requests": requests})

    def relieved(self, model: str, step: str) -> None:
        """The device had too little memory; this was tried."""
        self._metrics.count("out_of_memory_total", 1, model, step)

    def read(self, reader: Reader, records: int) -> None:
        """Records came from Kafka."""
        self._metrics.count("records_total", records, reader)

    def started(self, job: Job) -> None:
        """A record is ours to answer."""
        if job.envelope.model in self._models:
            self.shares.count(job.envelope.lane, job.envelope.model)

    def prepared(self, model: str, jobs: Sequence[Job]) -> None:
        """Texts were cut into tokens."""
        self._metrics.observe("tokenize_seconds", jobs[0].tokenize_ms / 1000, model)
        mean = sum(job.cost.tokens for job in jobs) / len(jobs)
        before = self.tokens_per_request.get(model, mean)
        self.tokens_per_request[model] = before + SMOOTHING * (mean - before)

    def encoded(self, batch: Batch, supplied: Supplied) -> None:
        """A batch has its vectors: counters and the log say for how much, the rest what that cost the device."""
        model, metrics, forward_s = batch.model, self._metrics, supplied.forward_s
        fill = supplied.tokens / self._budgets[model].tokens
        room = self._budgets[model].tokens if supplied.items else 0
        self.rates.add(model, Done(batch.items, batch.tokens, filled=min(supplied.tokens, room), room=room))
        metrics.count("items_total", batch.items, model)
        metrics.count("tokens_total", batch.tokens, model)
        if supplied.items:
            metrics.observe("batch_items", supplied.items, model)
            metrics.observe("batch_tokens", supplied.tokens, model)
            metrics.observe("batch_fill_ratio", min(fill, 1.0), model)
            metrics.observe("forward_seconds", forward_s, model, trace=batch.parts[0].job.trace)
        if supplied.coalesced:
            metrics.count("items_coalesced_total", supplied.coalesced, model)
        if supplied.hits or supplied.misses:
            metrics.count("cache_items_total", supplied.hits, model, "hit")
            metrics.count("cache_items_total", supplied.misses, model, "miss")
        first = batch.parts[0].job
        metrics.observe("queue_seconds", first.queue_ms / 1000, model, first.envelope.lane, trace=first.trace)
        if fill >= TELLING_FILL:  # a small batch takes hardly less time than a full one
            rate = supplied.tokens / max(forward_s, 1e-6)
            before = self.tokens_per_s.get(model, float("inf"))
            self.tokens_per_s[model] = rate if before == float("inf") else before + SMOOTHING * (rate - before)
        log.info(
            "batch",
            extra={
                "model": model,
                "requests": len(batch.parts),
                "items": batch.items,
                "tokens": batch.tokens,
                "coalesced": supplied.coalesced,
                "cached": supplied.hits,
                "fill": round(fill, 3),
                "queue_ms": round(first.queue_ms, 3),
                "forward_ms": round(forward_s * 1000, 3),
            },
        )

    def delivered(self, endings: Sequence[Ending], deliver_s: float, traced: Trace | None = None) -> None:
        """Outcomes were acknowledged, that of a `traced` request among them."""
        self._metrics.observe("deliver_seconds", deliver_s, trace=traced)
        counts: dict[tuple[str, str, str], int] = {}
        failed = Counter[str]()
        now_ms = time.time() * 1000
        for ending in endings:
            if not isinstance(ending, Outcome):
                continue
            envelope, result = ending.job.envelope, ending.result
            code = result.code if isinstance(result, Failed) else "ok"
            # a model nobody serves would make a label of whatever was sent
            model = envelope.model if envelope.model in self._models else ""
            key: tuple[str, str, str] = (model, envelope.lane, code)
            counts[key] = counts.get(key, 0) + 1
            if model and (lost := 1 if isinstance(result, Failed) else len(result.failures)):
                failed[model] += lost
            asked_ms = envelope.journey.first_seen_unix_ms or ending.job.record.timestamp_ms
            if asked_ms > 0:  # else its producer did not say
                age_s = max(0.0, now_ms - asked_ms) / 1000
                self._metrics.observe("request_seconds", age_s, model, envelope.lane, trace=ending.job.trace)
        for model, count in failed.items():
            self.rates.add(model, Done(failed=count))
        for key, count in counts.items():
            self._metrics.count("requests_total", count, *key)

    def sent_on(self, plan: Plan) -> None:
        """Dead letters, and requests that are tried again, were acknowledged."""
        for write in plan.dead:
            self._metrics.count("dead_letters_total", 1, write.code)
            log.warning("dead_letter", extra={"id": write.ending.job.envelope.id, "code": write.code})
        counts = Counter((write.topic, write.code) for write in plan.retries)
        for (topic, code), count in counts.items():
            self._metrics.count("retries_total", count, code)
            log.info("tried_again", extra={"topic": topic, "code": code, "requests": count})

    def paused(self, model: str, pause_s: float) -> None:
        """A model failed so often that no more of its requests are run for a while."""
        self._metrics.set("model_paused", 1, model)
        remedy = "see why it fails (processing_failed, model_not_loaded); its requests wait in Kafka"
        log.error("model_paused", extra={"model": model, "pause_s": round(pause_s, 3), "remedy": remedy})

    def resumed(self, model: str) -> None:
        """One request of a paused model went well, or another checkpoint answers for it."""
        self._metrics.set("model_paused", 0, model)
        log.warning("model_resumed", extra={"model": model})

    def unrun(self, id: str, topic: str, partition: int, deaths: int) -> None:
        """A request is failed without being run: the process died too often with it first in its partition."""
        place = {"topic": topic, "partition": partition, "deaths": deaths}
        log.error("request_not_run", extra={"id": id, **place})

    def device_lost(self, error: Exception, requests: int) -> None:
        """The device is broken: its requests are sent on to be run alone, and the worker ends."""
        log.critical("device_lost", extra={"error": f"{type(error).__name__}: {error}", "requests": requests})
