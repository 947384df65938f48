"""Which benchmarks are to run, at which scale, and what if one fails?"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from benchmarks import checkpoints
from benchmarks.arithmetic import BERT, MINILM, MODERNBERT, Shape
from benchmarks.checkpoints import Recipe
from benchmarks.machine import describe
from benchmarks.report import Report, Row

T = TypeVar("T")


class Reporting(Protocol):
    """Where benchmarks run: whatever else it is, it says how far they are."""

    @property
    def say(self) -> Callable[[str], None]:
        """Progress, beside the table."""
        ...


PLACE = TypeVar("PLACE", bound=Reporting)
SCALE = TypeVar("SCALE")


class Skipped(Exception):
    """Why this machine cannot measure a row; the message says what it would need."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured. The defaults take about twenty minutes on two cores."""

    runs: int = 3
    seconds: float = 4.0
    """Of each run of the transport rows, …"""
    warm_s: float = 2.0
    """… and of what they do before the first one: Kafka compiles itself under load."""
    texts: int = 600
    """Of the rows that encode with MiniLM, …"""
    long_texts: int = 80
    """… of those with about 512 tokens each, …"""
    wide_texts: int = 96
    """… and of those with models of the size of BERT-base."""
    online_calls: int = 8
    online_texts: int = 32
    """Of each call."""
    queries: int = 8
    documents: int = 32
    """Of each query."""
    minilm: str | Recipe = checkpoints.MINILM
    minilm_long: str | Recipe = checkpoints.MINILM_LONG
    bert: Shape = BERT
    modernbert: Shape = MODERNBERT
    ranker: Shape = MINILM
    record_texts: int = 32
    """Of each request of `road.bulk`."""
    idle_runs: int = 2
    idle_s: float = 20.0
    idle_settle_s: float = 5.0
    idle_models: int = 20
    memory_runs: int = 3
    backlog: int = 500_000
    small_backlog: int = 1_000
    reindex_rows: int = 3_000
    """Of `bulk.rows`, …"""
    reindex_runs: int = 2
    many_rows: int = 1_000_000
    """… of `bulk.memory`, …"""
    few_rows: int = 10_000
    many_rows_runs: int = 1
    beside_rows: int = 20_000
    """… and of the job that those on the interactive lane have beside them."""
    lanes_runs: int = 2
    lanes_s: float = 15.0
    map_texts: int = 20_000
    asking_runs: int = 7
    concurrent_calls: int = 1_000
    concurrent_rounds: int = 10


@dataclass(frozen=True)
class Benchmark(Generic[PLACE, SCALE]):
    """One measurement and the names of the rows that it yields."""

    names: tuple[str, ...]
    measure: Callable[[PLACE, SCALE], list[Row]]


def select(benchmarks: Sequence[Benchmark[PLACE, SCALE]], prefixes: Sequence[str]) -> list[Benchmark[PLACE, SCALE]]:
    """Those with a row whose name begins with one of the prefixes; all without any.

    Raises:
        ValueError: no row begins with a prefix.
    """
    names = [name for benchmark in benchmarks for name in benchmark.names]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            raise ValueError(f"no row begins with {prefix!r}; there are: {', '.join(names)}")
    wanted = tuple(prefixes) or ("",)
    return [benchmark for benchmark in benchmarks if any(name.startswith(wanted) for name in benchmark.names)]


def run(place: PLACE, benchmarks: Sequence[Benchmark[PLACE, SCALE]], scale: SCALE, limit_s: float = math.inf) -> Report:
    """Measure all, one after the other. One that fails is an error in the report; the others go on.

    What has not begun after `limit_s` is skipped.
    """
    report = Report(describe(), [], {}, {})
    end_s = time.monotonic() + limit_s
    for benchmark in benchmarks:
        place.say(", ".join(benchmark.names))
        start_s = time.monotonic()
        try:
            if start_s > end_s:
                raise Skipped(f"{limit_s:g} s were over")
            rows = benchmark.measure(place, scale)
            if tuple(row.name for row in rows) != benchmark.names:
                raise ValueError(f"it yielded the rows {', '.join(row.name for row in rows)}")
            report.rows.extend(rows)
        except Skipped as reason:
            report.skipped.update(dict.fromkeys(benchmark.names, str(reason)))
        except Exception as error:  # whatever it is, the other rows are still worth having
            place.say(traceback.format_exc())
            report.errors.update(dict.fromkeys(benchmark.names, f"{type(error).__name__}: {error}"))
        place.say(f"  took {time.monotonic() - start_s:.0f} s")
    return report


def interleave(runs: int, sides: Sequence[Callable[[], T]]) -> list[list[T]]:
    """Run every side once in each run, another one first each time: a machine that slows down slows all of them.

    Returns what each side measured, by side and run.
    """
    measured: list[list[T]] = [[] for _ in sides]
    for number in range(runs):
        for turn in range(len(sides)):
            side = (number + turn) % len(sides)
            measured[side].append(sides[side]())
    return measured
