"""Why is it slow?"""

from __future__ import annotations

from typing import Final

from docs.pages.monitoring.form import Alert, Panel, Question, Unit

_MEAN: Final = "sum by ({by}) (rate({name}_sum[5m])) / sum by ({by}) (rate({name}_count[5m]))"


def _mean(name: str, by: str) -> str:
    return _MEAN.format(name=f"embedmq_{name}", by=by)


def _step(title: str, name: str, by: str, reading: str, unit: Unit = "s") -> Panel:
    legend = " ".join("{{" + label.strip() + "}}" for label in by.split(","))
    return Panel(title, unit, {legend: _mean(name, by)}, reading)


QUESTION: Final = Question(
    "Why?",
    "A request waits in Kafka, then in the worker (`queue`), is cut into tokens, computed, and delivered. The step "
    "whose mean grew is the one. A batch that is full is the device's doing, one that is empty somebody else's.",
    (
        _step("1. Waits in the worker", "queue_seconds", "model, lane", "Long with a busy device: add workers."),
        _step("2. Is cut into tokens", "tokenize_seconds", "model", "Near the wait: raise `worker.tokenizer_threads`."),
        _step("3. Is computed", "forward_seconds", "model", "Far above `worker.max_batch_ms`: the device is shared."),
        Panel(
            "4. Is delivered",
            "s",
            {"mean": "sum(rate(embedmq_deliver_seconds_sum[5m])) / sum(rate(embedmq_deliver_seconds_count[5m]))"},
            "Long: Redis or the reply topics are slow.",
        ),
        _step(
            "How full batches are",
            "batch_fill_ratio",
            "model",
            "Low while requests wait: the device is starved, by one of the other steps.",
            "percentunit",
        ),
        Panel(
            "Loading a model",
            "s",
            {
                "{{model}}": "sum by (model) (rate(embedmq_model_load_seconds_sum[1h])) "
                "/ sum by (model) (rate(embedmq_model_load_seconds_count[1h]))"
            },
            "Long: a slow disk, or a hub. Whoever asked for it waited that long: pin it.",
            quiet=True,
        ),
        Panel(
            "Kafka or Redis is away",
            "s",
            {"{{world}}": "max by (world) (embedmq_world_away_seconds)"},
            "Above zero: workers wait, and lose nothing. Bring it back.",
        ),
        Panel(
            "Event loop answers within, 99 of 100",
            "s",
            {
                "{{instance}}": "histogram_quantile(0.99, sum by (le, instance) "
                "(rate(embedmq_loop_delay_seconds_bucket[5m])))"
            },
            "Above 0.1 s: the process lacks processor time; see its limits, and `loop_blocked` in the log.",
        ),
    ),
    (
        Alert(
            "EmbedMQWorldAway",
            "critical",
            "1m",
            "max by (job, world) (embedmq_world_away_seconds) > 60",
            "At least one worker has waited for {{ $labels.world }} for more than a minute",
            "Nothing is lost, and nothing moves there; if it is one of many, see its machine first. Else: is "
            "it up, reachable, and may workers write to it? Their logs say why in `redis_away`, `commit_failed`, "
            "`produce_failed` or `dead_letter_blocked`.",
            {'embedmq_world_away_seconds{world="redis",instance="a"}': "0+60x60"},
            {"world": "redis"},
            {'embedmq_world_away_seconds{world="redis",instance="a"}': "0 3 0 5 0+0x56"},
        ),
        Alert(
            "EmbedMQDeadLettersBlocked",
            "critical",
            "5m",
            "max by (instance) (embedmq_dead_letters_blocked) == 1",
            "{{ $labels.instance }} can write no dead letters or retries, and stands still",
            "The event `dead_letter_blocked` says which topic, and why: a missing permission, too few replicas in "
            "sync, or a full disk.",
            {'embedmq_dead_letters_blocked{instance="a"}': "0+0x30 1+0x30"},
            {"instance": "a"},
            {'embedmq_dead_letters_blocked{instance="a"}': "0+0x60"},
        ),
        Alert(
            "EmbedMQRightsMissing",
            "critical",
            "5m",
            "max by (instance) (embedmq_rights_missing) > 0",
            "{{ $labels.instance }} has lost rights in Kafka that it needs",
            "The event `rights_missing` names them; docs/security.md has the table of all. What they are for "
            "stands still until they are given back, and is not lost.",
            {'embedmq_rights_missing{instance="a"}': "0+0x30 2+0x30"},
            {"instance": "a"},
            {'embedmq_rights_missing{instance="a"}': "0+0x60"},
        ),
        Alert(
            "EmbedMQLoopBlocked",
            "warning",
            "0m",
            "increase(embedmq_loop_blocked_total[15m]) > 0",
            "The event loop of {{ $labels.instance }} stood still",
            "The event `loop_blocked` has the stack that held it up. Without one of ours in it, the machine is "
            "overloaded: give the worker more processor time.",
            {'embedmq_loop_blocked_total{instance="a"}': "0+0x50 1+0x10"},
            {"instance": "a"},
            {'embedmq_loop_blocked_total{instance="a"}': "3+0x60"},
        ),
    ),
)
