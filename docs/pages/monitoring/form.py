"""What does an on-call person ask, and what answers it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Severity = Literal["critical", "warning"]
"""`critical` wakes somebody up; `warning` is for the next working day."""
Unit = Literal["s", "percentunit", "short", "reqps", "ops", "bytes", "bool"]
"""A unit of Grafana's."""

Series = Mapping[str, str]
"""Series and their values, a minute apart, as promtool's tests write them."""

RUNBOOK: Final = "https://github.com/embedmq/embedmq/blob/main/docs/monitoring.md"
EVERY_MINUTE_FOR: Final = 60
"""Minutes after which a test of an alert looks."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A picture of some queries: each legend with its PromQL. `reading` says what to see in it, and what to do."""

    title: str
    unit: Unit
    queries: Mapping[str, str]
    reading: str
    quiet: bool = False
    """Whether there is nothing to be seen where all is well, or no GPU."""


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule, with tests: with the series `fires` it does after an hour, labelled so, and with each of `also`; with
    `silent` it never does.

    `summary` may name labels as `{{ $labels.model }}`.
    """

    name: str
    severity: Severity
    held_for: str
    expr: str
    summary: str
    remedy: str
    fires: Series
    labels: Mapping[str, str]
    silent: Series
    also: tuple[Series, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """One of the five, with what to look at, and what rings."""

    asked: str
    answer: str
    panels: tuple[Panel, ...]
    alerts: tuple[Alert, ...]
