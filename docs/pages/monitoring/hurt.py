"""Who is hurt?"""

from __future__ import annotations

from typing import Final

from docs.pages.monitoring.form import Alert, Panel, Question
from docs.pages.monitoring.rises import risen

_OURS: Final = 'code=~"model_unavailable|processing_failed|undeliverable"'
"""Failures that callers cannot help; the others say what is wrong with a request."""
_SHARE: Final = (
    "sum by (job, model) (rate(embedmq_requests_total{{{some}}}[5m])) "
    "/ sum by (job, model) (rate(embedmq_requests_total[5m]))"
)

QUESTION: Final = Question(
    "Who is hurt?",
    "Every failure has a [code](wire.md#codes). `model_unavailable`, `processing_failed` and `undeliverable` are ours; "
    "the others tell callers what is wrong with their requests, or that they came too late. No metric has ids, nor "
    "tenants that the configuration does not list, for there may be any number: dead letters carry them "
    "(`embedmq dead list`).",
    (
        Panel(
            "Requests that fail, by code",
            "reqps",
            {
                "{{model}} {{lane}} {{code}}": "sum by (model, lane, code) "
                '(rate(embedmq_requests_total{code!="ok"}[5m]))'
            },
            "One model: see its log events. One code over all models: a producer sends something new.",
        ),
        Panel(
            "Requests answered",
            "reqps",
            {"{{model}} {{lane}}": "sum by (model, lane) (rate(embedmq_requests_total[5m]))"},
            "Nothing, while requests wait: see *Models paused* and *Waiting for a model*.",
        ),
        Panel(
            "Dead letters and retries",
            "short",
            {
                "dead: {{code}}": "sum by (code) (increase(embedmq_dead_letters_total[5m]))",
                "tried again: {{code}}": "sum by (code) (increase(embedmq_retries_total[5m]))",
            },
            "Dead letters stay until somebody looks: `embedmq dead list`, then `replay` or `purge`.",
        ),
        Panel(
            "Models paused",
            "bool",
            {"{{model}}": "max by (model) (embedmq_model_paused)"},
            "1: nearly all of its requests failed, so the rest wait in Kafka instead of becoming dead letters.",
            quiet=True,
        ),
        Panel(
            "Waiting for a model",
            "short",
            {"{{model}}": "sum by (model) (embedmq_waiting_for_model)"},
            "Long above zero: it is being loaded, has no room, or cannot be loaded.",
        ),
        Panel(
            "Waiting where nobody reads",
            "short",
            {"{{model}} {{lane}}": "max by (model, lane) (embedmq_unserved_records)"},
            "Above zero: no worker serves the model, so none tells of its lag. `embedmq models` says who does.",
            quiet=True,
        ),
        Panel(
            "Refused for their tenant's quota",
            "reqps",
            {"{{tenant}}": "sum by (tenant) (rate(embedmq_quota_refused_total[5m]))"},
            "Somebody sends more than was agreed, and is told when to go on; others are not hurt.",
            quiet=True,
        ),
        Panel(
            "Records that retention removed unread",
            "short",
            {"{{reader}}": "sum by (reader) (increase(embedmq_records_lost_total[1h]))"},
            "Above zero: requests are lost for good, and nobody was told. It is the one loss there is.",
            quiet=True,
        ),
    ),
    (
        Alert(
            "EmbedMQRequestsFail",
            "critical",
            "5m",
            f"{_SHARE.format(some=_OURS)} > 0.05",
            "More than 5 of 100 requests for {{ $labels.model }} fail, by no fault of their callers",
            "`embedmq models` says whether the model could be loaded; the events `processing_failed` and "
            "`model_unavailable` say why not. Once it is mended: `embedmq dead replay`.",
            {
                'embedmq_requests_total{model="m",lane="bulk",code="processing_failed"}': "0+10x60",
                'embedmq_requests_total{model="m",lane="bulk",code="ok"}': "0+90x60",
            },
            {"model": "m"},
            {
                'embedmq_requests_total{model="m",lane="bulk",code="too_long"}': "0+50x60",
                'embedmq_requests_total{model="m",lane="bulk",code="processing_failed"}': "0+1x60",
                'embedmq_requests_total{model="m",lane="bulk",code="ok"}': "0+50x60",
            },
        ),
        Alert(
            "EmbedMQDeadlinesMissed",
            "warning",
            "10m",
            _SHARE.format(some='code="deadline_exceeded"') + " > 0.05",
            "More than 5 of 100 requests for {{ $labels.model }} came too late for their callers",
            "The workers are too few, or a step of *Why?* is slow. A deadline shorter than a model's load is always "
            "missed while it is loaded: pin it.",
            {
                'embedmq_requests_total{model="m",lane="interactive",code="deadline_exceeded"}': "0+10x60",
                'embedmq_requests_total{model="m",lane="interactive",code="ok"}': "0+90x60",
            },
            {"model": "m"},
            {
                'embedmq_requests_total{model="m",lane="interactive",code="deadline_exceeded"}': "0+1x60",
                'embedmq_requests_total{model="m",lane="interactive",code="ok"}': "0+90x60",
            },
        ),
        Alert(
            "EmbedMQDeadLetters",
            "warning",
            "0m",
            f"sum by (job, code) {risen('embedmq_dead_letters_total', '15m')}",
            "Requests became dead letters: {{ $labels.code }}",
            "`embedmq dead list` shows which, and why. Mend the cause, then `embedmq dead replay`, or `purge`.",
            {'embedmq_dead_letters_total{code="malformed"}': "0+0x50 2+0x10"},
            {"code": "malformed"},
            {'embedmq_dead_letters_total{code="malformed"}': "7+0x60"},
            ({'embedmq_dead_letters_total{code="malformed"}': "_x50 7x10"},),
        ),
        Alert(
            "EmbedMQModelPaused",
            "critical",
            "5m",
            "max by (job, model) (embedmq_model_paused) == 1",
            "{{ $labels.model }} fails so often that it is paused",
            "Its requests wait, and none is lost. The events `processing_failed` and `model_not_loaded` "
            "say why; it goes on by itself once one of its requests goes well.",
            {'embedmq_model_paused{model="m"}': "0+0x30 1+0x30"},
            {"model": "m"},
            {'embedmq_model_paused{model="m"}': "0+0x56 1+0x3"},
        ),
        Alert(
            "EmbedMQUnserved",
            "warning",
            "15m",
            "max by (job, model, lane) (embedmq_unserved_records) > 0",
            "Requests ({{ $labels.lane }}) for {{ $labels.model }} wait, and no worker reads them",
            "Was it unloaded, taken out of the files, or has its pool no workers? `embedmq models load` has it served "
            "again. Until then they wait, at most until retention removes them: have their producers stop.",
            {
                'embedmq_unserved_records{model="m",lane="interactive",instance="a"}': "_x30 5x30",
                'embedmq_unserved_records{model="m",lane="interactive",instance="b"}': "_x31 5x10 _x5 7x14",
            },
            {"model": "m", "lane": "interactive"},
            {'embedmq_unserved_records{model="m",lane="bulk",instance="a"}': "_x50 5x2 stale"},
        ),
        Alert(
            "EmbedMQModelNotLoaded",
            "warning",
            "0m",
            f"sum by (job, model, error) {risen('embedmq_model_load_failures_total', '15m')}",
            "{{ $labels.model }} cannot be loaded: {{ $labels.error }}",
            "`embedmq models` has the reason, `embedmq doctor` the remedy.",
            {'embedmq_model_load_failures_total{model="m",error="CheckpointInvalid"}': "0+0x50 1+0x10"},
            {"model": "m", "error": "CheckpointInvalid"},
            {'embedmq_model_load_failures_total{model="m",error="CheckpointInvalid"}': "2+0x60"},
            ({'embedmq_model_load_failures_total{model="m",error="CheckpointInvalid"}': "_x50 1x10"},),
        ),
        Alert(
            "EmbedMQRecordsLost",
            "critical",
            "0m",
            f"sum by (job, reader) {risen('embedmq_records_lost_total', '1h')}",
            "Retention removed requests that no worker had read ({{ $labels.reader }})",
            "They are lost: the event `records_lost` says how many, and where. Raise the topics' `retention.ms`, add "
            "workers, and have the producers of that time publish again.",
            {'embedmq_records_lost_total{reader="bulk"}': "0+0x50 100+0x10"},
            {"reader": "bulk"},
            {'embedmq_records_lost_total{reader="bulk"}': "0+0x60"},
            ({'embedmq_records_lost_total{reader="bulk"}': "_x50 50000x10"},),
        ),
    ),
)
