"""What will break next?"""

from __future__ import annotations

from typing import Final

from docs.pages.monitoring.form import Alert, Panel, Question
from docs.pages.monitoring.rises import risen

_TOO_LITTLE: Final = 'embedmq_out_of_memory_total{step=~"halve|fail"}'
_WORKERS: Final = "on (job, instance) embedmq_worker_info"
_WORKERS_OF_LATE: Final = "on (job, instance) max_over_time(embedmq_worker_info[10m])"
"""One that dies again and again is away between its lives."""


def _lives(*values: int) -> str:
    """A minute each, and four away, as Kubernetes starts a container again that fails; away when the test looks."""
    return "_x2 " + " ".join(f"{value} stale _x3" for value in values)


QUESTION: Final = Question(
    "What will break next?",
    "What is not yet felt by anybody: requests that grow old in Kafka, workers that come and go, models that push each "
    "other out, files and memory that run short.",
    (
        Panel(
            "Until retention removes what waits",
            "s",
            {"{{reader}}": "min by (reader) (embedmq_retention_left_seconds)"},
            "A line that falls by a second each second: nothing moves. At zero, requests are lost.",
        ),
        Panel(
            "Workers",
            "short",
            {"{{version}}": "count by (version) (embedmq_worker_info)", "ready": "sum(embedmq_ready)"},
            "Two versions: a deploy is under way. Fewer ready than there are: `/ready` says what they wait for.",
        ),
        Panel(
            "Running for",
            "s",
            {"{{instance}}": f"(time() - process_start_time_seconds) and {_WORKERS}"},
            "Teeth of a saw: it dies and is started again; the event `worker_died`, or Kubernetes, says why.",
        ),
        Panel(
            "Partitions by worker",
            "short",
            {"{{instance}} {{lane}}": "max by (instance, lane) (embedmq_assigned_partitions)"},
            "Zero for long: more workers than partitions.",
        ),
        Panel(
            "Rebalances",
            "short",
            {"{{lane}}": "sum by (lane) (increase(embedmq_rebalances_total[15m]))"},
            "Steadily above zero: workers die, or are too slow to answer Kafka.",
        ),
        Panel(
            "Models loaded and evicted",
            "short",
            {
                "{{model}} loaded": "sum by (model) (increase(embedmq_model_loads_total[15m]))",
                "{{model}} evicted": "sum by (model) (increase(embedmq_model_evictions_total[15m]))",
            },
            "One as often as the other: the memory budget is too small for the models in use.",
        ),
        Panel(
            "Memory ran out",
            "short",
            {"{{model}} {{step}}": "sum by (model, step) (increase(embedmq_out_of_memory_total[15m]))"},
            "`free_cache` now and then is well; `halve` and `fail` are not: lower `max_batch_tokens`.",
            quiet=True,
        ),
        Panel(
            "Files and connections, by what may be open",
            "percentunit",
            {"{{instance}}": f"(process_open_fds / process_max_fds) and {_WORKERS}"},
            "Near 1: raise the limit, and see who connects to `worker.http`.",
        ),
    ),
    (
        Alert(
            "EmbedMQNoWorkers",
            "critical",
            "5m",
            'max by (prefix, pool) (max_over_time(embedmq_worker_info{sleeps=""}[1d])) '
            "unless max by (prefix, pool) (embedmq_worker_info and on (job, instance) embedmq_ready == 1)",
            "No worker is ready any more, of prefix {{ $labels.prefix }}, pool {{ $labels.pool }}",
            "Requests wait in Kafka until retention removes them. Are there any workers, and does Prometheus see them? "
            "Those that end at once say why in the last lines of their logs, those that live at "
            "`http://<worker.http>/ready`. Pools are told apart where targets have the label `pool`, and may have no "
            "worker where they have `sleeps`; the chart sets both. It rings for a day: silence it for a pool that was "
            "taken away.",
            {
                'embedmq_worker_info{job="w",instance="a",prefix="p",pool="gpu"}': _lives(*[1] * 12),
                'embedmq_ready{job="w",instance="a",pool="gpu"}': _lives(*[0] * 12),
                'embedmq_worker_info{job="w",instance="b",prefix="p",pool="cpu"}': "1+0x60",
                'embedmq_ready{job="w",instance="b",pool="cpu"}': "1+0x60",
            },
            {"prefix": "p", "pool": "gpu"},
            {
                'embedmq_worker_info{job="w",instance="a",prefix="p",pool="gpu",sleeps="true"}': "1+0x30 stale",
                'embedmq_ready{job="w",instance="a",pool="gpu",sleeps="true"}': "1+0x30 stale",
                'embedmq_worker_info{job="w",instance="b",prefix="p",pool="cpu"}': "1+0x30 stale",
                'embedmq_ready{job="w",instance="b",pool="cpu"}': "1+0x30 stale",
                'embedmq_worker_info{job="w",instance="c",prefix="p",pool="cpu"}': "_x32 1+0x30",
                'embedmq_ready{job="w",instance="c",pool="cpu"}': "_x32 1+0x30",
            },
            (
                {
                    'embedmq_worker_info{job="w",instance="a",prefix="p",pool="gpu"}': "1+0x30 stale",
                    'embedmq_ready{job="w",instance="a",pool="gpu"}': "1+0x30 stale",
                },
            ),
        ),
        Alert(
            "EmbedMQWorkerDown",
            "warning",
            "5m",
            "up == 0 and on (job) count by (job) (max_over_time(embedmq_worker_info[1d]))",
            "The worker {{ $labels.instance }} does not answer",
            "See its log, and why it ended. Others have taken its partitions.",
            {
                'up{job="w",instance="a"}': "0+0x60",
                'embedmq_worker_info{job="w",instance="a"}': "1+0x30 stale",
            },
            {"job": "w", "instance": "a"},
            {
                'up{job="other",instance="a"}': "0+0x60",
                'up{job="w",instance="b"}': "1+0x60",
                'embedmq_worker_info{job="w",instance="b"}': "1+0x60",
            },
        ),
        Alert(
            "EmbedMQNotReady",
            "warning",
            "15m",
            "max by (instance) (max_over_time(embedmq_ready[10m])) == 0",
            "The worker {{ $labels.instance }} has not been ready for 15 minutes",
            "`curl http://<worker.http>/ready` says what it waits for: Kafka and Redis, a pinned model, or its groups. "
            "One that gives up says why in the last line of its log, and is started again.",
            {'embedmq_ready{instance="a"}': "0+0x60"},
            {"instance": "a"},
            {'embedmq_ready{instance="a"}': "0+0x10 1+0x50"},
            ({'embedmq_ready{instance="a"}': _lives(*[0] * 12)},),
        ),
        Alert(
            "EmbedMQRestarts",
            "warning",
            "0m",
            f"changes(process_start_time_seconds[30m]) > 2 and {_WORKERS_OF_LATE}",
            "The worker {{ $labels.instance }} was started again more than twice in half an hour",
            "The event `worker_died` has its exit code; -9 is the system's, for want of memory. One request that kills "
            "processes is found and set aside by itself: see `request_not_run`.",
            {
                'process_start_time_seconds{job="w",instance="a"}': "0+0x40 1000+600x20",
                'embedmq_worker_info{job="w",instance="a"}': "1+0x60",
            },
            {"job": "w", "instance": "a"},
            {
                'process_start_time_seconds{job="w",instance="a"}': "0+0x40 1000+0x20",
                'process_start_time_seconds{job="other",instance="a"}': "0+600x60",
                'embedmq_worker_info{job="w",instance="a"}': "1+0x60",
            },
            (
                {
                    'process_start_time_seconds{job="w",instance="a"}': _lives(*range(0, 3600, 300)),
                    'embedmq_worker_info{job="w",instance="a"}': _lives(*[1] * 12),
                },
            ),
        ),
        Alert(
            "EmbedMQRetentionNear",
            "critical",
            "5m",
            "min by (job, reader) (embedmq_retention_left_seconds / (embedmq_retention_left_seconds "
            "+ embedmq_oldest_record_seconds)) < 0.5",
            "Requests ({{ $labels.reader }}) have waited for half of the time that Kafka keeps them",
            "Add workers now, or raise the topics' `retention.ms` until they have caught up; what retention removes is "
            "lost. Why nothing moves is *Why?* and *Who is hurt?*",
            {
                'embedmq_retention_left_seconds{reader="bulk",instance="a"}': "200000-60x60",
                'embedmq_oldest_record_seconds{reader="bulk",instance="a"}': "404800+60x60",
            },
            {"reader": "bulk"},
            {
                'embedmq_retention_left_seconds{reader="bulk",instance="a"}': "600000+0x60",
                'embedmq_oldest_record_seconds{reader="bulk",instance="a"}': "4800+0x60",
            },
        ),
        Alert(
            "EmbedMQRetentionSoon",
            "warning",
            "30m",
            "min by (job, reader) (predict_linear(embedmq_retention_left_seconds[1h], 86400)) < 0",
            "At this pace, requests ({{ $labels.reader }}) are removed within a day",
            "Add workers, or raise the topics' `retention.ms`.",
            {'embedmq_retention_left_seconds{reader="bulk",instance="a"}': "80000-60x60"},
            {"reader": "bulk"},
            {'embedmq_retention_left_seconds{reader="bulk",instance="a"}': "604800-60x60"},
        ),
        Alert(
            "EmbedMQThrashing",
            "warning",
            "10m",
            "max by (job, model) (embedmq_model_thrashing) == 1",
            "{{ $labels.model }} is loaded and evicted again and again",
            "Raise `worker.memory_budget_bytes`, pin the model, or give it a worker of its own.",
            {'embedmq_model_thrashing{model="m"}': "0+0x30 1+0x30"},
            {"model": "m"},
            {'embedmq_model_thrashing{model="m"}': "0+0x55 1+0x5"},
        ),
        Alert(
            "EmbedMQOutOfMemory",
            "warning",
            "0m",
            f"sum by (job, model) {risen(_TOO_LITTLE, '15m')}",
            "Batches of {{ $labels.model }} do not fit the device's memory",
            "Lower `worker.max_batch_tokens` or `worker.memory_budget_bytes`; see who else uses the device.",
            {'embedmq_out_of_memory_total{model="m",step="halve"}': "0+0x50 1+0x10"},
            {"model": "m"},
            {'embedmq_out_of_memory_total{model="m",step="free_cache"}': "0+1x60"},
            ({'embedmq_out_of_memory_total{model="m",step="fail"}': "_x50 1x10"},),
        ),
        Alert(
            "EmbedMQCacheFails",
            "warning",
            "15m",
            "sum by (instance, step) (rate(embedmq_cache_failures_total[5m])) > 0",
            "{{ $labels.instance }} cannot {{ $labels.step }} the content cache",
            "No request fails by it, but all is computed. Redis is slow, full, or denies the keys.",
            {'embedmq_cache_failures_total{instance="a",step="read"}': "0+1x60"},
            {"instance": "a", "step": "read"},
            {'embedmq_cache_failures_total{instance="a",step="read"}': "0+1x10 10+0x50"},
        ),
        Alert(
            "EmbedMQRebalances",
            "warning",
            "15m",
            "sum by (job, lane) (increase(embedmq_rebalances_total[15m])) "
            "/ on (job) group_left () count by (job) (embedmq_worker_info) > 3",
            "The workers of the lane {{ $labels.lane }} are given partitions again and again",
            "One of them dies, or stands still so long that Kafka takes its partitions: see *Running for*, "
            "`loop_blocked` in the logs, and processor limits.",
            {
                'embedmq_rebalances_total{lane="bulk",instance="a"}': "0+1x60",
                'embedmq_worker_info{instance="a"}': "1+0x60",
            },
            {"lane": "bulk"},
            {
                'embedmq_rebalances_total{lane="bulk",instance="a"}': "0+0x50 2+0x10",
                'embedmq_worker_info{instance="a"}': "1+0x60",
            },
        ),
        Alert(
            "EmbedMQFilesRunOut",
            "warning",
            "10m",
            f"process_open_fds / process_max_fds > 0.8 and {_WORKERS}",
            "The worker {{ $labels.instance }} has nearly as many files and connections open as it may",
            "Raise the limit (`ulimit -n`); see who connects to `worker.http`.",
            {
                'process_open_fds{job="w",instance="a"}': "900+0x60",
                'process_max_fds{job="w",instance="a"}': "1000+0x60",
                'embedmq_worker_info{job="w",instance="a"}': "1+0x60",
            },
            {"job": "w", "instance": "a"},
            {
                'process_open_fds{job="w",instance="a"}': "100+0x60",
                'process_max_fds{job="w",instance="a"}': "1000+0x60",
                'embedmq_worker_info{job="w",instance="a"}': "1+0x60",
            },
        ),
    ),
)
