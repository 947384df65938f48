"""Which metrics are there, what does each mean, and what is to be done about it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from embedmq_worker.trace import Trace

Kind = Literal["counter", "gauge", "histogram"]

_SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_LONG: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 600, 1_800, 3_600, 14_400, 86_400)
"""For what takes milliseconds live, and hours in bulk."""
_LOADS: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
_COUNTS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_TOKENS: Final = tuple(4**power for power in range(1, 9))
_SHARES: Final = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, declared once: the code and the documentation are made of this."""

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    meaning: str
    remedy: str
    buckets: tuple[float, ...] = ()


def _metric(name: str, kind: Kind, unit: str, labels: str, meaning: str, remedy: str, *buckets: float) -> Metric:
    return Metric(f"embedmq_{name}", kind, unit, tuple(labels.split()), meaning, remedy, buckets)


METRICS: Final = (
    _metric("records_total", "counter", "records", "lane", "Records read from Kafka.", "None, with lag: see /ready."),
    _metric("requests_total", "counter", "requests", "model lane code",
            "Requests answered; `code` is `ok` or the failure's.", "Failures rise: docs/wire.md explains each code."),
    _metric("items_total", "counter", "items", "model", "Items that were given their vectors.",
            "The worker's throughput; the device's without items_coalesced_total and the hits of cache_items_total."),
    _metric("items_coalesced_total", "counter", "items", "model",
            "Items that were given the vector of an identical one in flight, without the device.",
            "High beside items_total: callers send the same texts at the same time."),
    _metric("cache_items_total", "counter", "items", "model outcome",
            "Items looked up in the content cache: `hit`, or `miss`.",
            "Hardly any hits: turn `cache.enabled` off, or raise `cache.max_bytes`."),
    _metric("cache_written_total", "counter", "items", "", "Vectors written to the content cache.",
            "Less than its misses: vectors are larger than `cache.max_value_bytes`, or see cache_failures_total."),
    _metric("cache_written_bytes_total", "counter", "bytes", "", "Bytes written to the content cache.",
            "Divided by cache_written_total, what `cache.max_value_bytes` should be slightly above."),
    _metric("cache_failures_total", "counter", "failures", "step", "Times the cache could not be had: `read`, `write`.",
            "Rising: Redis is away, slow or full; what is not found is computed, and no request fails."),
    _metric("tokens_total", "counter", "tokens", "model", "Tokens of those items.", "As for items_total."),
    _metric("batch_items", "histogram", "items", "model", "Items that a batch had for the device.",
            "Ones under load: requests arrive one by one, or `max_batch_ms` is small for this device.", *_COUNTS),
    _metric("batch_tokens", "histogram", "tokens", "model", "Tokens that a batch had for the device.",
            "As for batch_items.", *_TOKENS),
    _metric("batch_fill_ratio", "histogram", "ratio", "model", "Tokens of a batch by what it might have held.",
            "Low with lag: something before the device is slow; see tokenize_seconds and in_flight_bytes.", *_SHARES),
    _metric("request_seconds", "histogram", "seconds", "model lane",
            "From the moment Kafka had a request to the acknowledgement of its outcome, by two machines' clocks.",
            "Long, and queue_seconds short: requests wait in Kafka, so add workers; else see the steps below.", *_LONG),
    _metric("queue_seconds", "histogram", "seconds", "model lane", "From reading a request to its first batch.",
            "Long: add workers, or see which model takes the device.", *_SECONDS),
    _metric("tokenize_seconds", "histogram", "seconds", "model", "Cutting the texts of one read into tokens.",
            "Near queue_seconds: raise `tokenizer_threads`.", *_SECONDS),
    _metric("forward_seconds", "histogram", "seconds", "model", "One batch on the device.",
            "Far above `max_batch_ms`: the rate measured at load is off; something shares the device.", *_SECONDS),
    _metric("deliver_seconds", "histogram", "seconds", "", "Writing the results of one delivery.",
            "Long: Redis or the reply topics are slow.", *_SECONDS),
    _metric("room_used_ratio", "gauge", "ratio", "lane",
            "What a lane holds by what it may hold: of bytes, items and tokens, whichever is nearest its bound.",
            "Near 1: no more of it is read for now. Is the device busy, add workers; else see deliver_seconds and "
            "waiting_for_model."),
    _metric("in_flight_bytes", "gauge", "bytes", "", "Bytes of requests held.",
            "At the bound: the worker reads no more until results are delivered, which is right under overload."),
    _metric("in_flight_bytes_peak", "gauge", "bytes", "", "Most bytes ever held.", "Bounded by `max_in_flight_bytes`."),
    _metric("in_flight_items", "gauge", "items", "", "Items held.", "As for in_flight_bytes."),
    _metric("assigned_partitions", "gauge", "partitions", "lane", "Partitions assigned to this worker.",
            "Zero for long: more workers than partitions."),
    _metric("rebalances_total", "counter", "rebalances", "lane", "Assignments received.",
            "Rising steadily: workers die or are too slow to heartbeat; see their logs."),
    _metric("dead_letters_total", "counter", "records", "code", "Records sent to the dead-letter topic.",
            "Read them: each carries its reason in headers."),
    _metric("quota_refused_total", "counter", "requests", "tenant",
            "Requests refused since their tenant is over its quota; `*` are those of tenants without an entry.",
            "Someone sends more than was agreed: `retry_after_s` in the answers says when to go on; see `[tenants]`."),
    _metric("retries_total", "counter", "records", "code", "Requests sent to a retry topic, by the reason.",
            "`unknown_model`, `unsupported`: hosts differ, or a deploy is under way; else as for failures."),
    _metric("model_paused", "gauge", "boolean", "model", "Whether the guard keeps a failing model from being run.",
            "1: see the log for why it fails; its requests wait in Kafka, none is lost."),
    _metric("dead_letters_refused_total", "counter", "records", "", "Dead letters too large for their topic.",
            "Their callers have answers; the log has their places. Raise the topic's `max.message.bytes`."),
    _metric("dead_letters_blocked", "gauge", "boolean", "", "Whether Kafka takes no dead letters or retries.",
            "1: the worker waits and loses nothing; the event dead_letter_blocked says why."),
    _metric("rights_missing", "gauge", "rights", "", "Rights in Kafka that this worker needs and does not have.",
            "Above 0: what they are for stands still and is not lost; the event rights_missing names them."),
    _metric("records_repeated_total", "counter", "records", "reader fate",
            "Records read again after a rebalance: completed before (`skipped`), or begun anew (`again`).",
            "`again` rises with rebalances; each computes anew at most what was in flight."),
    _metric("records_lost_total", "counter", "records", "reader", "Records that retention removed unread.",
            "Above 0: requests are lost for good. Raise the topics' `retention.ms`, and add workers."),
    _metric("oldest_record_seconds", "gauge", "seconds", "reader", "Age of the oldest request that waits, about.",
            "Near the topics' `retention.ms`: requests will be lost soon. Add workers, or raise it."),
    _metric("retention_left_seconds", "gauge", "seconds", "reader",
            "Until retention removes the oldest request that waits, by `kafka.retention_ms`.",
            "Falling for hours: requests will be lost. Add workers, or raise the topics' `retention.ms`."),
    _metric("loop_delay_seconds", "histogram", "seconds", "", "How long the event loop took to answer when asked.",
            "Above 0.1 often: the process lacks processor time, or something holds the loop up.", *_SECONDS),
    _metric("lag_records", "gauge", "records", "model lane",
            "Requests without an outcome, in Kafka or here, of the partitions that this worker reads.",
            "Rising: add workers. Of a model on the shared topics it is a share, by what was read of late."),
    _metric("lag_tokens", "gauge", "tokens", "model lane", "Their tokens, by the mean of late.",
            "What to scale by: divided by the rate of tokens_total, it is the time that all this takes."),
    _metric("lag_age_seconds", "gauge", "seconds", "model lane", "Age of the oldest of them, about.",
            "Above what callers wait for: add workers, or see waiting_for_model and model_paused."),
    _metric("unserved_records", "gauge", "requests", "model lane",
            "Requests that wait on a topic of which nobody has read any for a minute; `shared`: that of many models.",
            "Above 0: no worker serves the model, or none of its pool runs; see `embedmq topics show`."),
    _metric("device_busy_ratio", "gauge", "ratio", "", "Part of the last minute in which the device had work.",
            "Near 1 with lag: add workers. Low with lag: something before the device is slow; see tokenize_seconds."),
    _metric("loop_blocked_total", "counter", "blocks", "", "Times the event loop stood still too long.",
            "Above 0: the log's `loop_blocked` has the stack that held it up."),
    _metric("world_away_seconds", "gauge", "seconds", "world",
            "For how long `redis` has taken no results, or `kafka` no commits or records; 0 while they do.",
            "Above 0: the worker waits and loses nothing. Bring it back; the log's redis_away, commit_failed say why."),
    _metric("redis_up", "gauge", "boolean", "", "Whether the last write to Redis succeeded.",
            "0: the worker waits and loses nothing; bring Redis back."),
    _metric("model_loaded", "gauge", "boolean", "model", "Whether the model is resident.",
            "0 with waiting_for_model: it is being loaded, or waits for room; see the log."),
    _metric("model_bytes", "gauge", "bytes", "model", "Size of the resident weights.", "Plan memory by it."),
    _metric("device_memory_bytes", "gauge", "bytes", "state",
            "Memory of the device, `used` by all its processes and `total`; absent where it has none of its own.",
            "Used near total: others share the device, or the memory budget is too high; see out_of_memory_total."),
    _metric("memory_budget_bytes", "gauge", "bytes", "", "What all models together may take.",
            "Compare with model_bytes: near it, models make room for each other."),
    _metric("model_path", "gauge", "boolean", "model path computed_in", "1 for the way that batches take.",
            "`padded` or `sentence-transformers` where `packed` was expected: `embedmq models` says why."),
    _metric("model_loads_total", "counter", "loads", "model", "Times the model was loaded.",
            "Rising steadily: the memory budget is too small for the models in use; raise it, or pin some."),
    _metric("model_evictions_total", "counter", "evictions", "model", "Times the model made room for others.",
            "As for model_loads_total."),
    _metric("model_load_failures_total", "counter", "failures", "model error", "Loads that failed, by the kind.",
            "`embedmq models` has the reason, `embedmq doctor` the remedy."),
    _metric("model_load_seconds", "histogram", "seconds", "model", "Loading one model.",
            "Long: a slow disk, or a hub; requests wait for it.", *_LOADS),
    _metric("model_thrashing", "gauge", "boolean", "model", "Whether it is loaded and evicted again and again.",
            "1: raise `memory_budget_bytes`, pin the model, or give it a worker of its own."),
    _metric("waiting_for_model", "gauge", "requests", "model", "Requests whose model is not resident.",
            "Long above zero: see model_load_failures_total and memory_budget_bytes."),
    _metric("out_of_memory_total", "counter", "steps", "model step",
            "Steps of the ladder taken: `free_cache`, `evict`, `halve`, `fail`.",
            "Rising: lower `max_batch_tokens`, or the memory budget."),
    _metric("requests_untraced_total", "counter", "requests", "",
            "Requests that were to be traced, and were more than `tracing.max_per_s`.",
            "Rising: callers sample too much, or raise it."),
    _metric("spans_exported_total", "counter", "spans", "", "Spans that were taken where `tracing.endpoint` says.",
            "0 with `tracing.enabled`: no caller's trace is sampled, and `tracing.sample_share` is 0."),
    _metric("spans_dropped_total", "counter", "spans", "reason",
            "Spans that nobody has: too many waited (`full`), or they were not taken (`refused`).",
            "Rising: the collector is away or slow (the log's spans_not_taken); requests do not wait for it."),
    _metric("ready", "gauge", "boolean", "", "Whether `/ready` says so.",
            "0 for long: `/ready` says what is waited for."),
    _metric("worker_info", "gauge", "boolean", "prefix version python torch device",
            "1, with what this worker is; join it by `instance`.", "Differs between workers: a deploy is under way."),
)  # fmt: skip


PROCESS: Final = (
    Metric("process_start_time_seconds", "gauge", "seconds", (), "When the process began, as Unix time.",
           "Changes often: it dies and is started again; see the log for why."),
    Metric("process_cpu_seconds_total", "counter", "seconds", (), "Processor time, of all threads.",
           "At the number of cores: texts are cut, or computed, as fast as this machine can."),
    Metric("process_resident_memory_bytes", "gauge", "bytes", (), "Memory of the process.",
           "Near its limit: lower the memory budget, or `max_in_flight_bytes`."),
    Metric("process_virtual_memory_bytes", "gauge", "bytes", (), "Addresses that the process has reserved.", "None."),
    Metric("process_open_fds", "gauge", "descriptors", (), "Files and connections that are open.",
           "Near process_max_fds: raise the limit (`ulimit -n`), and see who connects to `worker.http`."),
    Metric("process_max_fds", "gauge", "descriptors", (), "How many may be open.", "Raise it by `ulimit -n`."),
)  # fmt: skip
"""What prometheus-client says of any process, on Linux."""


class Metrics:
    """The live metrics of one worker, by name, in a registry of their own."""

    def __init__(self) -> None:
        # each counter and histogram would come with a second series, of when it was made
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations
        self.registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._shown: dict[str, dict[tuple[str, ...], float]] = {}
        self._histograms: dict[str, Histogram] = {}
        for metric in METRICS:
            text = f"{metric.meaning} [{metric.unit}]"
            if metric.kind == "counter":
                self._counters[metric.name] = Counter(metric.name, text, metric.labels, registry=self.registry)
            elif metric.kind == "gauge":
                self._gauges[metric.name] = Gauge(metric.name, text, metric.labels, registry=self.registry)
            else:
                self._histograms[metric.name] = Histogram(
                    metric.name, text, metric.labels, registry=self.registry, buckets=metric.buckets
                )
        ProcessCollector(registry=self.registry)

    def count(self, name: str, amount: float = 1, *labels: str) -> None:
        """Raise a counter; an undeclared name is a KeyError."""
        counter = self._counters[f"embedmq_{name}"]
        (counter.labels(*labels) if labels else counter).inc(amount)

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge."""
        gauge = self._gauges[f"embedmq_{name}"]
        (gauge.labels(*labels) if labels else gauge).set(value)

    def set_all(self, name: str, values: Mapping[tuple[str, ...], float]) -> None:
        """Set a gauge for these labels, and take it away for all others. What has not changed costs next to nothing."""
        gauge, shown = self._gauges[f"embedmq_{name}"], self._shown.setdefault(name, {})
        for labels in shown.keys() - values.keys():
            gauge.remove(*labels)
        for labels, value in values.items():
            if shown.get(labels) != value:
                gauge.labels(*labels).set(value)
        self._shown[name] = dict(values)

    def observe(self, name: str, value: float, *labels: str, trace: Trace | None = None) -> None:
        """Add to a histogram; `trace` is of a request for which that was so."""
        histogram = self._histograms[f"embedmq_{name}"]
        exemplar = None if trace is None else trace.exemplar
        (histogram.labels(*labels) if labels else histogram).observe(value, exemplar)
