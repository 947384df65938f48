"""What does a run of the benchmarks leave behind? Rows, each a ratio of medians; a file, and a table. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Literal

import msgspec
from msgspec import Struct

Better = Literal["higher", "lower"]
CpuUs = Mapping[str, Mapping[str, float]]


class Run(Struct, frozen=True):
    """One measurement of ours and, right before or after it, of the baseline."""

    value: float
    baseline_value: float | None = None


class Row(Struct, frozen=True, kw_only=True):
    """One benchmark: medians over its runs, and their ratio, ours ÷ baseline."""

    name: str
    value: float
    unit: str
    better: Better
    baseline: str | None
    baseline_value: float | None
    ratio: float | None
    runs: list[Run]
    cpu_us: dict[str, dict[str, float]]
    """CPU microseconds for each request, of `ours` and `baseline`, by process; empty where that is not measured.
    A busy machine moves them far less than rates."""
    goal: float | None = None
    """What the ratio should reach, or stay below where lower is better."""

    def spread(self) -> tuple[float, float] | None:
        """The lowest and the highest ratio among its runs; None without a baseline."""
        ratios = [run.value / run.baseline_value for run in self.runs if run.baseline_value]
        return (min(ratios), max(ratios)) if ratios else None

    @property
    def met(self) -> bool | None:
        """Whether the ratio is what it should be; None without a goal."""
        if self.goal is None or self.ratio is None:
            return None
        return self.ratio >= self.goal if self.better == "higher" else self.ratio <= self.goal


class Report(Struct, frozen=True, omit_defaults=True):
    """All rows of one run; `errors` and `skipped` say, by name, why a row is missing."""

    machine: dict[str, str | float]
    rows: list[Row]
    errors: dict[str, str] = {}
    skipped: dict[str, str] = {}
    """What this machine cannot measure."""


def row(
    name: str,
    unit: str,
    better: Better,
    runs: Sequence[Run],
    baseline: str | None = None,
    cpu_us: CpuUs | None = None,
    goal: float | None = None,
) -> Row:
    """Summarise the runs of one benchmark."""
    value = median(run.value for run in runs)
    against = [run.baseline_value for run in runs if run.baseline_value is not None]
    baseline_value = median(against) if against else None
    return Row(
        name=name,
        value=value,
        unit=unit,
        better=better,
        baseline=baseline,
        baseline_value=baseline_value,
        ratio=value / baseline_value if baseline_value else None,
        runs=list(runs),
        cpu_us={side: dict(used) for side, used in (cpu_us or {}).items()},
        goal=goal,
    )


def encode(report: Report) -> bytes:
    """As JSON, for `build/bench.json`."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def decode(data: bytes) -> Report:
    """What `encode` wrote."""
    return msgspec.json.decode(data, type=Report)


def table(report: Report) -> str:
    """For the terminal: one line a row, with the lowest and highest ratio among its runs, and what it should be."""
    lines = [_line("", "value", "baseline", "ratio", "of each run", "goal", "")]
    for row in report.rows:
        ends = row.spread()
        spread = f"{ends[0]:.2f}-{ends[1]:.2f}" if ends else ""
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        values = number(row.value), number(row.baseline_value)
        lines.append(_line(row.name, *values, ratio, spread, number(row.goal), row.unit))
    lines += [f"{name}: FAILED: {error}" for name, error in report.errors.items()]
    lines += [f"{name}: skipped: {reason}" for name, reason in report.skipped.items()]
    return "\n".join(line.rstrip() for line in lines)


def number(value: float | None) -> str:
    """Four significant digits, no exponent."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _line(name: str, value: str, baseline: str, ratio: str, spread: str, goal: str, unit: str) -> str:
    return f"{name:40}{value:>12}{baseline:>12}{ratio:>8}{spread:>14}{goal:>6}  {unit}"
