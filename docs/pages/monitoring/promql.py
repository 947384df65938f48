"""Which metrics and labels does a query of PromQL name, and does any worker expose them?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from embedmq_worker.metrics import METRICS, PROCESS, Metric

TARGET: Final = frozenset({"job", "instance", "pool", "sleeps"})
"""Labels of whatever is scraped: two of Prometheus's own, and two that the chart gives, which others may lack."""
WORDS: Final = frozenset({"and", "or", "unless", "offset", "bool", "atan2", "inf", "nan"})

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_MODIFIER = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_RANGE = re.compile(r"\[[^\]]*\]|\boffset\s+\w+")
_NAME = re.compile(r"(?<![\w.$])([a-zA-Z_:][\w:]*)(\{[^}]*\})?(?!\w)(\s*\()?")
_MATCHER = re.compile(r"\s*(\w+)\s*(?:=~|!~|!=|=)")


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric in a query, the labels that it is chosen by, and where what stands behind its name begins and ends."""

    name: str
    labels: tuple[str, ...]
    start: int
    end: int


def series(metrics: Iterable[Metric] = (*METRICS, *PROCESS)) -> Mapping[str, frozenset[str]]:
    """The labels of every series that a worker exposes, by its name; and of `up`, which Prometheus adds."""
    found: dict[str, frozenset[str]] = {"up": TARGET}
    for metric in metrics:
        labels = TARGET.union(metric.labels)
        if metric.kind == "histogram":
            found[f"{metric.name}_bucket"] = labels | {"le"}
            found[f"{metric.name}_sum"] = found[f"{metric.name}_count"] = labels
        else:
            found[metric.name] = labels
    return found


def selectors(query: str) -> Iterator[Selector]:
    """The metrics of a query, in order."""
    bare = _blank(_RANGE, _blank(_MODIFIER, _STRING.sub(lambda found: '"' + "_" * (len(found[0]) - 2) + '"', query)))
    for found in _NAME.finditer(bare):
        name, braces, call = found.groups()
        if call is None and name not in WORDS:
            labels = tuple(_MATCHER.findall(braces)) if braces else ()
            yield Selector(name, labels, found.end(1), found.end(1) + len(braces or ""))


def unknown(query: str) -> list[str]:
    """What is named that no worker exposes: metrics, and labels of them."""
    exposed, wrong, there = series(), list[str](), set(TARGET)
    for chosen in selectors(query):
        labels = exposed.get(chosen.name)
        if labels is None:
            wrong.append(chosen.name)
            continue
        there |= labels
        wrong += [f"{chosen.name}{{{label}}}" for label in chosen.labels if label not in labels]
    grouped = (label.strip() for found in _MODIFIER.findall(query) for label in found.split(","))
    return wrong + [label for label in grouped if label and label not in there]


def scoped(query: str, scope: Mapping[str, str]) -> str:
    """The query with a matcher more on each metric, for each label of the scope that it has."""
    exposed = series()
    for chosen in reversed(list(selectors(query))):
        matchers = [f'{label}=~"{value}"' for label, value in scope.items() if label in exposed[chosen.name]]
        inner = query[chosen.start + 1 : chosen.end - 1] if chosen.end > chosen.start else ""
        braces = "{" + ", ".join([inner] * bool(inner) + matchers) + "}"
        query = query[: chosen.start] + braces + query[chosen.end :]
    return query


def _blank(pattern: re.Pattern[str], text: str) -> str:
    """The text with spaces, as many, for what a pattern finds: so that places stay."""
    return pattern.sub(lambda found: " " * len(found[0]), text)
