"""What does `make bench` promise? A valid file whatever happens, and rows that were really measured."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from embedmq_local.stack import Stack

from benchmarks import harness, picture, report
from benchmarks.__main__ import write
from benchmarks.harness import Benchmark, Scale
from benchmarks.place import Place
from benchmarks.report import Row, Run
from benchmarks.rows import BENCHMARKS

TINY = Scale(runs=2, seconds=0.3, warm_s=0.1)
RATE = report.row("a.rate", "requests/s", "higher", [Run(4, 8), Run(6, 10), Run(90, 12)], "another")
ALONE = report.row("a.alone", "%", "lower", [Run(0.5)])
ROW_KEYS = {"name", "value", "unit", "better", "baseline", "baseline_value", "ratio", "runs", "cpu_us"}


@pytest.fixture
def place(stack: Stack) -> Place:
    return Place(stack, lambda _: None)


def made_up(place: Place, scale: Scale) -> list[Row]:
    return [RATE, ALONE]


def broken(place: Place, scale: Scale) -> list[Row]:
    raise RuntimeError("no such luck")


def test_a_row_runs_through_kafka_and_redis_and_its_ratio_is_that_of_the_medians(place: Place, tmp_path: Path) -> None:
    """Both sides of a comparison answer requests, and the file has every key of its format."""
    chosen = harness.select(BENCHMARKS, ["transport.latency_1"])
    write(harness.run(place, chosen, TINY), tmp_path)
    bench = json.loads((tmp_path / "bench.json").read_bytes())
    assert set(bench) == {"machine", "rows"}
    assert [row["name"] for row in bench["rows"]] == ["transport.latency_1_p50_ms", "transport.latency_1_p99_ms"]
    for row in bench["rows"]:
        assert set(row) == ROW_KEYS
        assert len(row["runs"]) == TINY.runs
        assert row["value"] > 0
        assert row["ratio"] == pytest.approx(row["value"] / row["baseline_value"])
        assert set(row["cpu_us"]["ours"]) == {"client", "worker", "kafka", "redis"}


def test_a_row_that_fails_is_named_and_loses_no_other(place: Place, tmp_path: Path) -> None:
    """The file has the rows that were measured, and says by name why others are missing; so does the table."""
    benchmarks = [Benchmark(("b.broken",), broken), Benchmark(("a.rate", "a.alone"), made_up)]
    measured = harness.run(place, benchmarks, TINY)
    write(measured, tmp_path)
    bench = json.loads((tmp_path / "bench.json").read_bytes())
    assert [row["name"] for row in bench["rows"]] == ["a.rate", "a.alone"]
    assert bench["errors"] == {"b.broken": "RuntimeError: no such luck"}
    assert "b.broken: FAILED: RuntimeError: no such luck" in report.table(measured)


def test_a_row_without_a_baseline_has_no_ratio_and_medians_ignore_one_wild_run() -> None:
    """One run that was disturbed moves nothing."""
    assert (RATE.value, RATE.baseline_value, RATE.ratio) == (6, 10, 0.6)
    assert (ALONE.value, ALONE.baseline_value, ALONE.ratio) == (0.5, None, None)


def test_the_picture_is_well_formed_and_names_every_row() -> None:
    """It is XML, whatever the rows are called."""
    rows = [report.row("a<b", "x/s", "higher", [Run(1, 2)], "c"), report.row("d", "%", "lower", [Run(1)])]
    texts = [text.text or "" for text in ET.fromstring(picture.draw(rows)).iter() if text.tag.endswith("text")]
    assert {"a<b ↑", "d ↓"} <= set(texts)


@pytest.mark.parametrize(("prefixes", "count"), [([], 7), (["idle"], 1), (["transport.t", "idle"], 3)])
def test_rows_are_chosen_by_how_their_names_begin(prefixes: list[str], count: int) -> None:
    """None asks for all."""
    assert len(harness.select(BENCHMARKS, prefixes)) == count


def test_a_row_that_does_not_exist_is_refused() -> None:
    """A misspelt name must not look like a run in which nothing failed."""
    with pytest.raises(ValueError, match=r"no row begins with 'transprot'; there are: transport\."):
        harness.select(BENCHMARKS, ["transprot"])
