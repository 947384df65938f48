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


class Report(Struct, frozen=True, omit_defaults=True):
    """All rows of one run; `errors` says, by name, why a row is missing."""

    machine: dict[str, str | float]
    rows: list[Row]
    errors: dict[str, str] = {}


def row(
    name: str, unit: str, better: Better, runs: Sequence[Run], baseline: str | None = None, cpu_us: CpuUs | None = None
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
    )


def encode(report: Report) -> bytes:
    """As JSON, for `build/bench.json`."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def table(report: Report) -> str:
    """For the terminal: one line a row, with the lowest and highest ratio among its runs."""
    lines = [_line("", "value", "baseline", "ratio", "of each run", "")]
    for row in report.rows:
        ratios = [run.value / run.baseline_value for run in row.runs if run.baseline_value]
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}" if ratios else ""
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        lines.append(_line(row.name, number(row.value), number(row.baseline_value), ratio, spread, row.unit))
    lines += [f"{name}: FAILED: {error}" for name, error in report.errors.items()]
    return "\n".join(line.rstrip() for line in lines)


def number(value: float | None) -> str:
    """Four significant digits, no exponent."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _line(name: str, value: str, baseline: str, ratio: str, spread: str, unit: str) -> str:
    return f"{name:34}{value:>12}{baseline:>12}{ratio:>8}{spread:>14}  {unit}"
