"""The dashboard, the alerts and the page name nothing that no worker exposes, and everything is written somewhere."""

from __future__ import annotations

import ast
import json
import re
from itertools import pairwise
from typing import Any, get_args

import pytest
from embedmq_worker.metrics import METRICS

from docs.pages import logs
from docs.pages.monitoring import dashboard, page, rules
from docs.pages.monitoring.form import Alert, Panel, Severity, Unit
from docs.pages.monitoring.promql import scoped, selectors, unknown
from docs.pages.monitoring.questions import QUESTIONS
from docs.pages.source import modules, parse

ALERTS = [alert for question in QUESTIONS for alert in question.alerts]
PANELS = [panel for question in QUESTIONS for panel in question.panels]
BOARD: dict[str, Any] = json.loads(dashboard.dashboard(QUESTIONS))
GRAPHS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
WRITERS = {"count", "set", "set_all", "observe"}


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_a_panel_asks_for_what_workers_expose(panel: Panel) -> None:
    """Metrics and labels alike; its legend shows no label that the query has thrown away."""
    for legend, query in panel.queries.items():
        assert unknown(query) == []
        kept = {label.strip() for found in re.findall(r"by \(([^)]*)\)", query) for label in found.split(",")}
        assert set(re.findall(r"{{(\w+)}}", legend)) <= kept | {"instance"}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_rings_by_what_workers_expose_and_says_what_to_do(alert: Alert) -> None:
    """Its examples are of the same series; whoever is called finds its heading on the page."""
    for query in (alert.expr, *(name for series in (alert.fires, *alert.also, alert.silent) for name in series)):
        assert unknown(query) == []
    assert re.fullmatch(r"EmbedMQ[A-Z]\w+", alert.name)
    assert alert.severity in get_args(Severity)
    assert re.fullmatch(r"\d+m", alert.held_for)
    assert alert.remedy
    assert set(re.findall(r"\$labels\.(\w+)", alert.summary)) <= alert.labels.keys()
    assert f"\n### {alert.name}\n" in page.page(QUESTIONS)
    assert f"#{alert.name.lower()}'" in rules.rules(QUESTIONS)


@pytest.mark.parametrize("alert", [alert for alert in ALERTS if "increase(" in alert.expr and alert.held_for == "0m"])
def test_an_alert_that_rings_at_once_is_tried_with_a_series_that_begins_with_the_failure(alert: Alert) -> None:
    """As real ones do that have labels; those without are there from the start, with 0."""
    begun = [values for series in alert.also for values in series.values() if values.startswith("_x50 ")]
    exposed = {metric.name: metric.labels for metric in METRICS}
    assert begun or not any(exposed[chosen.name] for query in alert.fires for chosen in selectors(query))


def test_names_are_told_apart_and_given_once() -> None:
    """Two alerts of one name would hide each other, two panels of one title nobody could speak of."""
    assert len({alert.name for alert in ALERTS}) == len(ALERTS)
    assert len({panel.title for panel in PANELS}) == len(PANELS)


def test_queries_that_scale_workers_ask_for_what_workers_expose() -> None:
    """Those of the page."""
    assert [unknown(query) for query in page.SCALE.values()] == [[], []]


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("sum(embedmq_misspelt_total)", ["embedmq_misspelt_total"]),
        ("embedmq_request_seconds", ["embedmq_request_seconds"]),
        ("rate(embedmq_request_seconds_bucket[5m])", []),
        ('embedmq_ready{lane="bulk"}', ["embedmq_ready{lane}"]),
        ('embedmq_ready{instance="}lane="}', []),
        ("sum by (tenant) (embedmq_lag_tokens)", ["tenant"]),
        ("embedmq_ready / on (job) group_left (nix) up offset 5m > 1e9 and bool", ["nix"]),
        ("avg_over_time(nothing[1h]) unless embedmq_ready", ["nothing"]),
    ],
)
def test_a_query_that_names_what_nobody_exposes_is_found_out(query: str, wrong: list[str]) -> None:
    """Metrics, the parts of a histogram, labels in braces and labels that are grouped by."""
    assert unknown(query) == wrong


def test_the_dashboard_narrows_each_metric_by_the_labels_that_it_has() -> None:
    """So that choosing a model leaves alone what no model has."""
    scope = {"instance": "$instance", "model": "$model"}
    assert scoped('a(embedmq_requests_total{code!="ok"}[5m]) / sum(up)', scope | {"lane": "$lane"}) == (
        'a(embedmq_requests_total{code!="ok", instance=~"$instance", model=~"$model", lane=~"$lane"}[5m])'
        ' / sum(up{instance=~"$instance"})'
    )


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    """Ids are given once, nothing lies on top of another or beyond the edge, units are Grafana's, and every variable
    that is used is there."""
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    assert [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"] == [q.asked for q in QUESTIONS]
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= dashboard.COLUMNS
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        taken |= cells
    names = {variable["name"] for variable in BOARD["templating"]["list"]} | {"__rate_interval", "__all"}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(BOARD))) <= names
    for graph in GRAPHS:
        assert graph["fieldConfig"]["defaults"]["unit"] in get_args(Unit)
        assert graph["description"]
        assert len({target["refId"] for target in graph["targets"]}) == len(graph["targets"])
        for target in graph["targets"]:
            assert all("instance" in chosen.labels for chosen in selectors(target["expr"]))
    for variable in dashboard.VARIABLES.values():
        assert unknown(re.sub(r"label_values\((.*), \w+\)", r"\1", variable)) == []


def test_every_metric_that_is_declared_is_written_and_no_other() -> None:
    """By the code of the worker: what nobody writes would be zero for ever, what nobody declared an error at night."""
    written: set[str] = set()
    for path in modules("embedmq_worker"):
        for node in ast.walk(parse(path)):
            match node:
                case ast.Call(func=ast.Attribute(value=owner, attr=verb), args=[ast.Constant(value=str(name)), *_]) if (
                    verb in WRITERS and ast.unparse(owner).endswith("metrics")
                ):
                    written.add(f"embedmq_{name}")
                case _:
                    continue
    assert written == {metric.name for metric in METRICS}


def test_no_label_can_take_any_number_of_values() -> None:
    """Ids, texts and partitions are for the log; tenants too, but for those that the configuration names."""
    unbounded = {"tenant", "id", "worker", "text", "client", "topic", "partition", "offset", "key"}
    assert {(metric.name, label) for metric in METRICS for label in unbounded.intersection(metric.labels)} == {
        ("embedmq_quota_refused_total", "tenant")
    }


def test_buckets_ascend_and_reach_far_enough() -> None:
    """A day for a request, since bulk waits for hours; half an hour for a load."""
    for metric in METRICS:
        assert all(low < high for low, high in pairwise(metric.buckets))
    farthest = {metric.name: metric.buckets[-1] for metric in METRICS if metric.buckets}
    assert farthest["embedmq_request_seconds"] == 86_400
    assert farthest["embedmq_model_load_seconds"] == 1_800


def test_every_field_of_every_event_has_a_meaning() -> None:
    """Where it has none, the page cannot be made."""
    schema: Any = logs.schema()
    assert set(schema["$defs"]) == {logs.plain(row[0]) for row in logs.rows()}
    for event in schema["$defs"].values():
        assert all(kind["description"] for kind in event["properties"].values())
