"""Spans leave in their own time, or are counted and gone: nobody waits for them."""

from __future__ import annotations

import logging
import socket
import time

import pytest
from embedmq_schemas.trace_context import TraceContext
from embedmq_worker.config import Tracing
from embedmq_worker.configuration import load
from embedmq_worker.errors import ConfigInvalid
from embedmq_worker.metrics import Metrics
from embedmq_worker.trace import Computed, child
from embedmq_worker.trace_export import Exporter

from tests.tracing.collector import collecting

CALLER = TraceContext(0xA, 0xB, state="vendor=v1")


def batch() -> Computed:
    return Computed(child(CALLER), "m", time.time_ns(), 1.0, 2.0, [child(CALLER)], 1, {"embedmq.items": 3})


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"embedmq_{name}", labels) or 0.0


def test_a_close_sends_what_waits() -> None:
    """Before it returns, and once each; a trace's state goes with it."""
    metrics = Metrics()
    with collecting() as found:
        exporter = Exporter(Tracing(endpoint=found.url), "w1", metrics)
        exporter.start()
        for _ in range(1_000):
            exporter.put(batch())
        exporter.close()
    assert len({span.span_id for span in found.spans}) == len(found.spans) == 1_000
    assert value(metrics, "spans_exported_total") == 1_000
    assert any(b"vendor=v1" in body for body in found.bodies)


def test_what_does_not_fit_is_counted_and_no_stop_waits_for_a_collector_that_says_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As many wait as may, and a stop takes as long as it may."""
    metrics, most = Metrics(), 512
    with socket.create_server(("127.0.0.1", 0)) as silent, caplog.at_level(logging.INFO):
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"
        exporter = Exporter(Tracing(endpoint=url, max_waiting=most, flush_s=0.2), "w1", metrics)
        for _ in range(3 * most):
            exporter.put(batch())
        assert value(metrics, "spans_dropped_total", reason="full") == 2 * most
        exporter.start()
        exporter.close()  # it takes ten seconds to give up, for each of two times
        assert [record.message for record in caplog.records] == ["spans_left_behind"]


def test_a_collector_that_is_away_is_said_once_and_what_it_did_not_take_is_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By us; the library's own words for each try are left out."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0.1")
    with collecting() as found:
        url = found.url
    metrics = Metrics()
    with caplog.at_level(logging.INFO):
        exporter = Exporter(Tracing(endpoint=url, flush_s=60), "w1", metrics)
        for _ in range(1_000):
            exporter.put(batch())
        exporter.start()
        exporter.close()
    assert value(metrics, "spans_dropped_total", reason="refused") == 1_000
    said = [record.message for record in caplog.records if getattr(record, "endpoint", url) == url]
    assert said == ["spans_not_taken"]


def test_where_the_extra_is_missing_a_worker_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line, before it takes on any work."""
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigInvalid, match=r"pip install 'embedmq\[otel\]'"):
        Exporter(Tracing(), "w1", Metrics())


@pytest.mark.parametrize("url", ["collector:4318", "http://me:hush@collector:4318/v1/traces", "http://hush@collector"])
def test_an_endpoint_with_a_secret_in_it_is_refused_and_not_repeated(url: str) -> None:
    """What a configuration says is shown by `embedmq config show` and in logs."""
    environ = {"EMBEDMQ_TRACING__ENDPOINT": url, "EMBEDMQ_MODELS__M__CHECKPOINT": "null:8"}
    with pytest.raises(ConfigInvalid) as refused:
        load(None, environ)
    assert "OTEL_EXPORTER_OTLP_HEADERS" in str(refused.value)
    assert "hush" not in str(refused.value)
