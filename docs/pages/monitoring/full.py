"""Is it full?"""

from __future__ import annotations

from typing import Final

from docs.pages.monitoring.form import Alert, Panel, Question

QUESTION: Final = Question(
    "Is it full?",
    "Full is when the device is always busy and what waits grows. A full room with an idle device is not full: "
    "something behind the device is slow. `embedmq_lag_tokens` is an estimate: records times the tokens that "
    "requests had of late.",
    (
        Panel(
            "Tokens that wait",
            "short",
            {"{{model}} {{lane}}": "sum by (model, lane) (embedmq_lag_tokens)"},
            "Growing for long: add workers. It is what workers are scaled by.",
        ),
        Panel(
            "Requests that wait",
            "short",
            {"{{model}} {{lane}}": "sum by (model, lane) (embedmq_lag_records)"},
            "As for tokens; what a request costs is the difference.",
        ),
        Panel(
            "Device is busy",
            "percentunit",
            {"{{instance}}": "max by (instance) (embedmq_device_busy_ratio)"},
            "At 1 while tokens wait: add workers. Low while tokens wait: go on with *Why?*",
        ),
        Panel(
            "Room that is used",
            "percentunit",
            {"{{instance}} {{lane}}": "max by (instance, lane) (embedmq_room_used_ratio)"},
            "Near 1: no more of that lane is read for now. With an idle device, see *4. Is delivered*.",
        ),
        Panel(
            "Memory of models, by the budget",
            "percentunit",
            {
                "{{instance}}": "sum by (instance) (embedmq_model_bytes) "
                "/ sum by (instance) (embedmq_memory_budget_bytes)"
            },
            "Near 1: models make room for each other; see *Models evicted*.",
        ),
        Panel(
            "Memory of the process",
            "bytes",
            {"{{instance}}": "max by (instance) (process_resident_memory_bytes)"},
            "Near the container's limit: lower `worker.memory_budget_bytes` or `worker.max_in_flight_bytes`.",
        ),
        Panel(
            "Memory of the device",
            "percentunit",
            {
                "{{instance}}": 'sum by (instance) (embedmq_device_memory_bytes{state="used"}) '
                '/ sum by (instance) (embedmq_device_memory_bytes{state="total"})'
            },
            "Nothing on a CPU. Near 1: others share the device, or the budget is too high.",
            quiet=True,
        ),
    ),
    (
        Alert(
            "EmbedMQSaturated",
            "warning",
            "15m",
            "avg by (job, pool) (embedmq_device_busy_ratio) > 0.9 and sum by (job, pool) (embedmq_lag_tokens) > 0 "
            "and sum by (job, pool) (embedmq_lag_tokens) > sum by (job, pool) (embedmq_lag_tokens offset 15m)",
            "All devices of {{ $labels.job }} {{ $labels.pool }} are busy, and what waits grows",
            "Add workers: up to one for each partition of the busiest topic. If there are as many already, add "
            "partitions, or give the model that takes most a pool of its own.",
            {
                'embedmq_device_busy_ratio{job="w",pool="gpu",instance="a"}': "1+0x60",
                'embedmq_device_busy_ratio{job="w",pool="cpu",instance="b"}': "0+0x60",
                'embedmq_lag_tokens{job="w",pool="gpu",instance="a"}': "0+1000x60",
            },
            {"job": "w", "pool": "gpu"},
            {'embedmq_device_busy_ratio{instance="a"}': "1+0x60", 'embedmq_lag_tokens{instance="a"}': "60000-900x60"},
        ),
        Alert(
            "EmbedMQRoomFull",
            "warning",
            "10m",
            "max by (instance) (embedmq_room_used_ratio) > 0.95 "
            "and max by (instance) (embedmq_device_busy_ratio) < 0.5",
            "{{ $labels.instance }} is full of requests, and its device is idle",
            "Something holds them: a model that is being loaded (`embedmq_waiting_for_model`), Redis or a reply topic "
            "that is slow (*4. Is delivered*), or one that is away.",
            {
                'embedmq_room_used_ratio{instance="a",lane="bulk"}': "1+0x60",
                'embedmq_device_busy_ratio{instance="a"}': "0+0x60",
            },
            {"instance": "a"},
            {
                'embedmq_room_used_ratio{instance="a",lane="bulk"}': "1+0x60",
                'embedmq_device_busy_ratio{instance="a"}': "1+0x60",
            },
        ),
    ),
)
