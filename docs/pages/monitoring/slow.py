"""Is it slow?"""

from __future__ import annotations

from typing import Final

from docs.pages.monitoring.form import Alert, Panel, Question

QUESTION: Final = Question(
    "Is it slow?",
    "`embedmq_request_seconds` is what a caller waits for, from the moment Kafka had the request to the moment its "
    "result was written. What is still waiting is not in it yet: that is `embedmq_lag_age_seconds`.",
    (
        Panel(
            "Answered within, 99 of 100 requests",
            "s",
            {
                "{{model}} {{lane}}": "histogram_quantile(0.99, sum by (le, model, lane) "
                "(rate(embedmq_request_seconds_bucket[5m])))"
            },
            "Interactive in seconds, bulk in minutes or hours: compare a lane with itself an hour ago.",
        ),
        Panel(
            "Answered within, half of the requests",
            "s",
            {
                "{{model}} {{lane}}": "histogram_quantile(0.5, sum by (le, model, lane) "
                "(rate(embedmq_request_seconds_bucket[5m])))"
            },
            "Far below the 99 of 100: a few suffer, such as those whose model is loaded first.",
        ),
        Panel(
            "Age of the oldest request that waits",
            "s",
            {"{{model}} {{lane}}": "max by (model, lane) (embedmq_lag_age_seconds)"},
            "A straight line upwards: nothing of this model moves. Go on with *Who is hurt?*",
        ),
        Panel(
            "Texts a second",
            "ops",
            {"{{model}}": "sum by (model) (rate(embedmq_items_total[5m]))"},
            "Falling while requests wait: something before or behind the device is slow. Go on with *Why?*",
        ),
    ),
    (
        Alert(
            "EmbedMQInteractiveSlow",
            "warning",
            "10m",
            "histogram_quantile(0.99, sum by (job, le, model) "
            '(rate(embedmq_request_seconds_bucket{lane="interactive"}[5m]))) > 5',
            "One of a hundred live requests for {{ $labels.model }} takes more than 5 s",
            "See the panels of *Why?* from left to right: the step whose time grew is the one. If it is none, requests "
            "wait in Kafka: add workers.",
            {
                'embedmq_request_seconds_bucket{model="m",lane="interactive",le="5"}': "0+10x60",
                'embedmq_request_seconds_bucket{model="m",lane="interactive",le="10"}': "0+20x60",
                'embedmq_request_seconds_bucket{model="m",lane="interactive",le="+Inf"}': "0+20x60",
            },
            {"model": "m"},
            {
                'embedmq_request_seconds_bucket{model="m",lane="interactive",le="5"}': "0+20x60",
                'embedmq_request_seconds_bucket{model="m",lane="interactive",le="+Inf"}': "0+20x60",
                'embedmq_request_seconds_bucket{model="m",lane="bulk",le="5"}': "0+0x60",
                'embedmq_request_seconds_bucket{model="m",lane="bulk",le="+Inf"}': "0+20x60",
            },
        ),
        Alert(
            "EmbedMQInteractiveWaits",
            "critical",
            "5m",
            'max by (job, model) (embedmq_lag_age_seconds{lane="interactive"}) > 60',
            "Live requests for {{ $labels.model }} have waited for more than a minute",
            "Is the model loaded (`embedmq models`)? Is it paused? Else the workers are too few, or a step of *Why?* "
            "stands still.",
            {'embedmq_lag_age_seconds{model="m",lane="interactive",instance="a"}': "0+60x60"},
            {"model": "m"},
            {
                'embedmq_lag_age_seconds{model="m",lane="interactive",instance="a"}': "0+0x60",
                'embedmq_lag_age_seconds{model="m",lane="bulk",instance="a"}': "0+60x60",
            },
        ),
    ),
)
