"""The pinned versions are versions of what we need, and tie nobody to one mirror."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from docs.pages.source import ROOT

LINES = (ROOT / "constraints.txt").read_text().splitlines()


def pins() -> dict[str, list[Version]]:
    """The pinned versions of each distribution: several where markers tell them apart."""
    found: dict[str, list[Version]] = {}
    for line in LINES:
        pin = Requirement(line)
        (specifier,) = pin.specifier
        assert specifier.operator == "==", line
        found.setdefault(canonicalize_name(pin.name), []).append(Version(specifier.version))
    return found


def needs(project: dict[str, Any]) -> list[Requirement]:
    """All direct dependencies, of every extra and every group."""
    groups: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    lists = [project["dependencies"], *project["optional-dependencies"].values(), *groups.values()]
    return [need for texts in lists for text in texts if (need := Requirement(text)).name != project["name"]]


def test_each_line_is_a_pin_without_an_address() -> None:
    """No index, no URL, no path, no hash: any mirror will do."""
    assert not [line for line in LINES if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.+]*( ; .+)?", line)]


def test_every_dependency_is_pinned_within_its_bounds(project: dict[str, Any]) -> None:
    """Whoever raises a bound compiles the constraints again."""
    pinned = pins()
    for need in needs(project):
        versions = pinned.get(canonicalize_name(need.name), [])
        assert versions, f"{need} is not in constraints.txt"
        assert all(need.specifier.contains(version) for version in versions), f"{need} is pinned to {versions}"
