"""A fleet is simulated with the worker's own code, and the page shows what the command wrote."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import fleet, simulate
from benchmarks.fleet import Size
from benchmarks.simulate import Result
from docs.pages.source import ROOT

SMALL = Size(seed=3, workers=16, models=160)
DOCS = ROOT / "docs"


def test_by_model_a_small_fleet_loads_less_and_answers_sooner() -> None:
    """Than with round robin, on the same requests, deaths and joins."""
    ours, other = (fleet.simulate(policy, SMALL, 240, 120) for policy in ("by model", "round robin"))
    assert ours.loads_per_hour < other.loads_per_hour / 1.5
    assert ours.p99_age_s < other.p99_age_s
    assert ours.done + ours.undone == other.done + other.undone


def test_the_same_seed_gives_the_same_run() -> None:
    """But for how long the machine took to decide."""
    first, again = (fleet.simulate("by model", SMALL, 60, 60) for _ in range(2))
    assert (first.minutes, first.done, first.moved) == (again.minutes, again.done, again.moved)


def test_the_page_shows_what_the_last_command_wrote() -> None:
    """Figures and picture are made of docs/scale.json, which is the command's own file."""
    result = simulate.decode((DOCS / simulate.DATA).read_bytes())
    page = (DOCS / simulate.PAGE).read_text(encoding="utf-8")
    assert f"{simulate.BEGIN}\n\n{simulate.figures(result)}\n\n{simulate.END}" in page
    picture = (DOCS / simulate.PICTURE).read_text(encoding="utf-8")
    assert picture == simulate.picture(result)
    assert {outcome.policy for outcome in result.outcomes} <= {text.text for text in ET.fromstring(picture).iter()}


def test_a_result_is_written_into_the_page_and_nothing_else_of_it_changes(tmp_path: Path) -> None:
    """Twice is as once; a page without the two comments is refused."""
    result = Result(SMALL, 60, 120, "2026-01-02", 3, [fleet.simulate("round robin", SMALL, 60, 60)] * 2)
    page = tmp_path / simulate.PAGE
    page.write_text(f"before\n{simulate.BEGIN}old{simulate.END}\nafter\n")
    for _ in range(2):
        simulate.write(result, tmp_path)
        assert re.fullmatch(
            rf"before\n{simulate.BEGIN}\n\n`make simulate .*\n\n{simulate.END}\nafter\n", page.read_text(), re.DOTALL
        )
    page.write_text("nothing")
    with pytest.raises(ValueError, match="no place for figures"):
        simulate.write(result, tmp_path)
