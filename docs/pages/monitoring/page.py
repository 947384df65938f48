"""What does docs/monitoring.md say?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from docs.pages.markdown import NOTE, table
from docs.pages.monitoring.form import Alert, Panel, Question
from docs.pages.source import ROOT

FOLDER: Final = ROOT / "deploy" / "monitoring"
INTRODUCTION: Final = """\
# Monitoring

Every worker serves [metrics](metrics.md) at `http://<worker.http>/metrics`, and writes its [log](logs.md) to standard
error. Have Prometheus read the first, with this file beside
[`alerts.yaml`](../deploy/monitoring/alerts.yaml), and a target for each worker process:

```yaml
{config}```

Then import [`dashboard.json`](../deploy/monitoring/dashboard.json) into Grafana, choose its data source, and, where
several deployments share a Prometheus, the `prefix` of one. Alerts of severity `critical` are for waking somebody up:
requests fail, stand still, or are about to be lost. A `warning` is for the next working day.

A scrape never waits for the worker's event loop, for a model that is being loaded, or for Kafka: a thread of its own
reads numbers that are there, from the first moment on. It takes some milliseconds of processor time for each model
that was asked for. Those who ask while one is made share the next, so that many scrapers at once cost what two do;
beyond 100 connections at once, further ones are closed. No label has ids, texts, or tenants that are not configured.

`python -m docs.pages.monitoring.check` holds all of this against Prometheus itself: its `promtool` reads the rules and
runs their tests, and a real Prometheus scrapes a real worker under load and answers the query of every panel.
"""
SCALING: Final = """\
## Scaling by what waits

The same endpoint is all that an autoscaler needs (KEDA's `prometheus` trigger, for one). Each worker tells of the
partitions that it was assigned, so the sum over all workers is the whole of what is read, whoever has which. The first
query is how much there is to do, the second whether it has waited too long. Of a model that nobody serves, no gauge of
lag tells: `embedmq_unserved_records` does, by workers that serve others. While no worker runs, nobody tells: let the
last one stay, or scale up from none by Kafka's own lag.

"""
SCALE: Final = {
    "tokens that wait": "sum(embedmq_lag_tokens)",
    "seconds that the oldest has waited": 'max(embedmq_lag_age_seconds{lane="interactive"})',
}


def page(questions: tuple[Question, ...]) -> str:
    """docs/monitoring.md."""
    config = (FOLDER / "prometheus.yaml").read_text("utf-8")
    parts = [NOTE, INTRODUCTION.format(config=config)]
    for question in questions:
        parts += _question(question)
    scale = table(("what", "query"), [(what, f"`{query}`") for what, query in SCALE.items()])
    return "".join([*parts, "\n", SCALING, scale])


def _question(question: Question) -> Iterator[str]:
    yield f"\n## {question.asked}\n\n{question.answer}\n\n"
    yield table(("look at", "query", "what it says"), [row for panel in question.panels for row in _rows(panel)])
    for alert in question.alerts:
        yield _alert(alert)


def _rows(panel: Panel) -> Iterator[tuple[str, str, str]]:
    queries = list(panel.queries.values())
    yield panel.title, f"`{queries[0]}`", panel.reading
    for query in queries[1:]:
        yield "", f"`{query}`", ""


def _alert(alert: Alert) -> str:
    held = "at once" if alert.held_for == "0m" else f"after {alert.held_for}"
    return f"\n### {alert.name}\n\nRings {held}, as `{alert.severity}`, when `{alert.expr}`\n\n{alert.remedy}\n"
