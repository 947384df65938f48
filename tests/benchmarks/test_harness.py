"""What does `make bench` promise? A valid file whatever happens, and rows that were really measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from embedmq_local.stack import Stack

from benchmarks import harness, report
from benchmarks.__main__ import write
from benchmarks.harness import Benchmark, Scale, Skipped
from benchmarks.place import Place
from benchmarks.report import Row, Run
from benchmarks.rows import BENCHMARKS

TINY = Scale(runs=2, seconds=0.3, warm_s=0.1, many_rows=600, few_rows=200, map_texts=300, asking_runs=1)
RATE = report.row("a.rate", "requests/s", "higher", [Run(4, 8), Run(6, 10), Run(90, 12)], "another")
GOAL = report.row("a.goal", "s", "lower", [Run(3, 4)], "another", goal=0.5)
ALONE = report.row("a.alone", "%", "lower", [Run(0.5)])
ROW_KEYS = {"name", "value", "unit", "better", "baseline", "baseline_value", "ratio", "runs", "cpu_us", "goal"}


@pytest.fixture
def place(stack: Stack) -> Place:
    return Place(stack, lambda _: None)


def made_up(place: Place, scale: Scale) -> list[Row]:
    return [RATE, ALONE]


def elsewhere(place: Place, scale: Scale) -> list[Row]:
    raise Skipped("needs a moon")


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


def test_a_bulk_job_is_run_as_a_command_and_map_as_a_program_would(place: Place) -> None:
    """All rows reach the sink and every text its vector, or the row is an error."""
    measured = harness.run(place, harness.select(BENCHMARKS, ["bulk.memory", "map"]), TINY)
    assert measured.errors == {}
    assert [row.name for row in measured.rows] == ["bulk.memory", "map.overhead"]
    assert all(row.ratio for row in measured.rows)


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


def test_a_benchmark_yields_the_rows_that_it_is_chosen_by(place: Place) -> None:
    """Else a row that went missing would be noticed by nobody."""
    measured = harness.run(place, [Benchmark(("a.rate",), made_up)], TINY)
    assert measured.errors == {"a.rate": "ValueError: it yielded the rows a.rate, a.alone"}


def test_a_row_that_cannot_be_measured_here_is_no_failure(place: Place) -> None:
    """It says what it would need; the exit code of the benchmarks is that of the errors."""
    measured = harness.run(place, [Benchmark(("b.elsewhere",), elsewhere)], TINY)
    assert (measured.errors, measured.skipped) == ({}, {"b.elsewhere": "needs a moon"})
    assert "b.elsewhere: skipped: needs a moon" in report.table(measured)


def test_what_has_not_begun_in_time_is_skipped(place: Place) -> None:
    """A run with a limit ends soon after it, and says what it left out."""
    measured = harness.run(place, [Benchmark(("a.rate", "a.alone"), made_up)], TINY, limit_s=-1)
    assert set(measured.skipped) == {"a.rate", "a.alone"}


def test_a_goal_is_a_ratio_to_reach_or_to_stay_below() -> None:
    """As the row says which way is better."""
    assert (GOAL.ratio, GOAL.met, RATE.met) == (0.75, False, None)
    assert report.row("a", "x/s", "higher", [Run(3, 4)], "b", goal=0.5).met


@pytest.mark.parametrize(("prefixes", "count"), [(["idle"], 1), (["transport.t", "idle"], 3), (["engine.o"], 1)])
def test_rows_are_chosen_by_how_their_names_begin(prefixes: list[str], count: int) -> None:
    """With a row come those that are measured with it."""
    assert len(harness.select(BENCHMARKS, prefixes)) == count


def test_without_a_name_all_rows_are_measured_each_once() -> None:
    """No two rows share a name."""
    names = [name for benchmark in harness.select(BENCHMARKS, []) for name in benchmark.names]
    assert len(names) == len(set(names)) == sum(len(benchmark.names) for benchmark in BENCHMARKS)


def test_a_row_that_does_not_exist_is_refused() -> None:
    """A misspelt name must not look like a run in which nothing failed."""
    with pytest.raises(ValueError, match=r"no row begins with 'transprot'; there are: engine\."):
        harness.select(BENCHMARKS, ["transprot"])
