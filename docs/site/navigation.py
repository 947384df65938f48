"""Which pages has the site, under which headings and in which order?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

Group = Mapping[str, str]
"""What each page is called in the margin, and its path below `docs/`."""
Entry = Mapping[str, str | list[str]]
"""The same of one page, or of several that are called by their own headings."""

NAVIGATION: Final[Mapping[str, Group]] = {
    "Start": {
        "Home": "README.md",
        "Concepts": "concepts.md",
        "Tutorial": "tutorial.md",
    },
    "Build with it": {
        "Recipes": "recipes.md",
        "Re-embed a corpus": "reindex.md",
        "Sources and sinks of your own": "adapters.md",
        "Other languages: the wire": "wire.md",
        "Test what uses it": "testing.md",
    },
    "Operate it": {
        "Deploy": "deploy.md",
        "Watch a fleet: top": "top.md",
        "Find out what is wrong: doctor": "doctor.md",
        "Change models without a restart": "control.md",
        "Monitoring": "monitoring.md",
        "Traces": "tracing.md",
        "Tenants and quotas": "tenants.md",
        "Security": "security.md",
        "Threat model": "threats.md",
        "Scale": "scale.md",
    },
    "Look it up": {
        "Settings": "settings.md",
        "Command line": "cli.md",
        "Metrics": "metrics.md",
        "Logs": "logs.md",
        "Values of the chart": "chart.md",
    },
    "Know why": {
        "Guarantees": "guarantees.md",
        "Performance": "performance.md",
        "Architecture": "architecture.md",
    },
}
DECISIONS: Final = "decisions"
"""The folder whose pages end the last group, its table first, the others by their numbers."""


def pages(docs: Path) -> Iterator[str]:
    """Every page that lies below `docs/`, by its path from there."""
    return (path.relative_to(docs).as_posix() for path in sorted(docs.rglob("*.md")))


def named(docs: Path) -> Iterator[str]:
    """Every page that the navigation leads to, in its order."""
    for group in NAVIGATION.values():
        yield from group.values()
    yield from decisions(docs)


def decisions(docs: Path) -> list[str]:
    """The table of all decisions, then each."""
    return [f"{DECISIONS}/README.md", *(page for page in pages(docs) if page.startswith(f"{DECISIONS}/0"))]


def navigation(docs: Path) -> list[dict[str, list[Entry]]]:
    """As mkdocs wants it; a decision is called by its heading, and shown where somebody opens their list."""
    groups: list[list[Entry]] = [[{name: page} for name, page in group.items()] for group in NAVIGATION.values()]
    groups[-1].append({"Decisions": decisions(docs)})
    return [{title: group} for title, group in zip(NAVIGATION, groups, strict=True)]
