"""Metrics are declared once, the log is JSON whatever is in it, and probes are answered whoever else connects."""

from __future__ import annotations

import http.client
import json
import logging
import math
import re
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from embedmq_worker.choose import Budget
from embedmq_worker.engine.seam import ModelFacts
from embedmq_worker.errors import ConfigInvalid
from embedmq_worker.health import Endpoint, Health
from embedmq_worker.jobs import Batch, Part
from embedmq_worker.logs import JsonFormatter
from embedmq_worker.meter import Meter
from embedmq_worker.metrics import METRICS, Metrics
from embedmq_worker.supply import Supplied
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.worker.jobs import make_job


def test_every_metric_is_declared_once_with_all_that_an_operator_needs() -> None:
    """Name, kind, unit, meaning and what to do; names as Prometheus wants them."""
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))
    for metric in METRICS:
        assert re.fullmatch(r"embedmq_[a-z][a-z0-9_]*", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.unit
        assert metric.meaning.endswith(".")
        assert metric.remedy
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert all(re.fullmatch(r"[a-z_]+", label) for label in metric.labels)


def test_what_is_exposed_is_what_is_declared() -> None:
    """A scrape parses and has every family, with its kind and unit."""
    metrics = Metrics()
    families = {f.name: f for f in text_string_to_metric_families(generate_latest(metrics.registry).decode())}
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert family.type == metric.kind
        assert f"[{metric.unit}]" in family.documentation


def test_an_undeclared_metric_is_an_error() -> None:
    """A misspelt name must not be a silent new metric."""
    with pytest.raises(KeyError):
        Metrics().count("misspelt_total")


def log_line(message: str, **extra: object) -> str:
    record = logging.getLogger("t").makeRecord("t", logging.INFO, "f.py", 1, message, (), None, extra=extra)
    return JsonFormatter().format(record)


def strictly(line: str) -> dict[str, object]:
    def refuse(constant: str) -> object:
        raise ValueError(constant)

    found: dict[str, object] = json.loads(line, parse_constant=refuse)
    return found


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, [1.0, math.nan], {"a": math.inf}])
def test_numbers_that_json_does_not_know_are_null_in_the_log(value: object) -> None:
    """`Infinity` would make the line unreadable to every collector."""
    assert "null" in json.dumps(strictly(log_line("event", value=value)))


@pytest.mark.parametrize("value", ["half a pair \ud83d", "two\nlines", b"bytes", object(), {1, 2}, ValueError("x")])
def test_any_value_makes_one_line_of_json(value: object) -> None:
    """Whatever an exception's text or an id holds."""
    line = log_line("event", value=value)
    assert "\n" not in line
    assert strictly(line)["event"] == "event"


def test_an_event_has_time_level_name_and_traceback() -> None:
    """Times are UTC with milliseconds."""
    try:
        raise ValueError("why")
    except ValueError:
        record = logging.getLogger("t").makeRecord("t", logging.ERROR, "f.py", 1, "broke", (), sys.exc_info())
    line = strictly(JsonFormatter().format(record))
    assert (line["event"], line["level"], line["logger"]) == ("broke", "error", "t")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line["time"]))
    assert "ValueError: why" in str(line["traceback"])


def test_a_warning_of_a_library_is_a_line_of_the_log_too() -> None:
    """Otherwise a collector of JSON lines would trip over numpy's or torch's."""
    code = "import warnings; from embedmq_worker.logs import configure; configure('info', 'w'); warnings.warn('odd')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=110)
    (line,) = done.stderr.splitlines()
    assert "odd" in str(strictly(line)["event"])
    assert strictly(line)["worker"] == "w"


def make_meter(rate: float) -> Meter:
    meter = Meter(Metrics(), ["m"], {"m": Budget(100, 100)})
    meter.loaded("m", ModelFacts(dimensions=8, max_tokens=8, tokens_per_s=rate), 0.1)
    return meter


@pytest.mark.parametrize("rate", [math.inf, 1000.0])
def test_a_batch_without_a_token_says_nothing_about_the_rate(rate: float) -> None:
    """A batch whose items all failed before the device takes no time and has no tokens: a rate of zero would promise
    clients an endless wait."""
    meter = make_meter(rate)
    meter.encoded(Batch("m", [Part(make_job(tokens=[0]), 0, 1)], 1, 0), Supplied(1, 0, 0.001, 0, 0, 0))
    assert meter.tokens_per_s["m"] == rate


def test_the_rate_follows_the_device() -> None:
    """The first batch replaces an unknown rate; later ones move it by a fifth."""
    meter = make_meter(math.inf)
    batch = Batch("m", [Part(make_job(tokens=[100]), 0, 1)], 1, 100)
    meter.encoded(batch, Supplied(1, 100, 1.0, 0, 0, 0))
    assert meter.tokens_per_s["m"] == pytest.approx(100)
    meter.encoded(batch, Supplied(1, 100, 0.5, 0, 0, 0))
    assert meter.tokens_per_s["m"] == pytest.approx(120)
    meter.encoded(batch, Supplied(0, 0, 0.0, coalesced=1, hits=0, misses=0))
    assert meter.tokens_per_s["m"] == pytest.approx(120)


@pytest.mark.parametrize("rate", [math.inf, 1000.0])
def test_how_fast_a_device_is_is_told_by_models_that_compute_on_it(rate: float) -> None:
    """What a constant vector takes is the host's business: workers would get unlike shares by how busy that was."""
    meter = make_meter(rate)
    meter.encoded(Batch("m", [Part(make_job(tokens=[100]), 0, 1)], 1, 100), Supplied(1, 100, 0.1, 0, 0, 0))
    assert meter.tokens_per_s["m"] == pytest.approx(1000)
    assert meter.speeds == ({} if rate == math.inf else meter.tokens_per_s)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    health = Health()
    running = Endpoint("127.0.0.1:0", health, Metrics().registry)
    running.start()
    yield running
    running.stop()


def get(endpoint: Endpoint, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(endpoint.address, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def test_probes_say_what_is_being_waited_for(endpoint: Endpoint) -> None:
    """Health is the loop, readiness is models and groups; other paths name the right ones."""
    assert get(endpoint, "/health") == (200, "ok\n")
    assert get(endpoint, "/ready") == (503, "waiting for start\n")
    assert get(endpoint, "/")[0] == 404
    assert "embedmq_in_flight_bytes" in get(endpoint, "/metrics")[1]


def test_a_connection_that_says_nothing_holds_up_no_probe(endpoint: Endpoint) -> None:
    """A port scanner must not make Kubernetes kill the worker."""
    host, port = endpoint.address.split(":")
    with socket.create_connection((host, int(port))):
        assert get(endpoint, "/health")[0] == 200


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:notaport", "127.0.0.1:99999", "192.0.2.1:1"])
def test_an_address_that_cannot_be_listened_on_is_a_configuration_error(address: str) -> None:
    """Named with its key."""
    with pytest.raises(ConfigInvalid, match=r"worker\.http = "):
        Endpoint(address, Health(), Metrics().registry)
