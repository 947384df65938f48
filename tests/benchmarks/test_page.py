"""Figures on a page are those of a run, typed by nobody."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import page, picture, report
from benchmarks.gpu import BENCHMARKS as ON_GPU
from benchmarks.report import Report, Run
from benchmarks.rows import BENCHMARKS
from docs.pages.source import ROOT

MACHINE: dict[str, str | float] = {"cores": 2, "cpu": "Some CPU", "memory_gib": 8.0, "python": "3.11", "torch": "2.15"}
REACHED = report.row("engine.a<b", "texts/s", "higher", [Run(30, 10), Run(31, 10), Run(32, 10)], "x & y", goal=1.6)
MISSED = report.row("engine.slow", "texts/s", "higher", [Run(11, 10)], "x", goal=1.6)
ALONE = report.row("idle.cpu", "%", "lower", [Run(0.5)])
MEASURED = Report(MACHINE, [REACHED, MISSED, ALONE], {"road.bulk": "OSError: no\nroad"}, {"engine.far": "no network"})
EMPTY = f"# Title\n\n{page.BEGIN}\n\nold\n\n{page.END}\n\nrest\n"


def texts(svg: str) -> list[str]:
    return ["".join(text.itertext()) for text in ET.fromstring(svg).iter() if text.tag.endswith("text")]


def test_the_page_shows_what_the_file_of_the_run_says(tmp_path: Path) -> None:
    """Every row with both sides, ratio, spread of the runs and goal; and what is missing, with the reason."""
    (tmp_path / "performance.md").write_text(EMPTY)
    (tmp_path / "bench.json").write_bytes(report.encode(MEASURED))
    assert page.main([str(tmp_path / "bench.json")], tmp_path) == 0
    written = (tmp_path / "performance.md").read_text()
    assert "On 2 cores of Some CPU, 8 GiB, Python 3.11, torch 2.15:" in written
    assert "| `engine.a<b` | 31 texts/s | 10 | **3.10** | 3.00–3.20 | ≥ 1.6 | x & y |" in written
    assert "| `idle.cpu` | 0.5 % |  |  |  |  |  |" in written
    assert "- `road.bulk`: OSError: no road\n- `engine.far`: no network" in written
    assert written.startswith("# Title\n")
    assert written.endswith("\n\nrest\n")
    assert "old" not in written
    assert (tmp_path / "benchmarks.svg").read_text() == picture.draw(MEASURED.rows)


def test_written_twice_it_is_the_same(tmp_path: Path) -> None:
    """The old figures go."""
    block = page.figures(MEASURED)
    assert page.insert(page.insert(EMPTY, block), block) == page.insert(EMPTY, block)


def test_without_a_run_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says which command makes one; a page without the two comments is refused."""
    assert page.main([str(tmp_path / "bench.json")], tmp_path) == 2
    assert "make bench writes it" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no place for figures"):
        page.insert("# Title\n", "figures")


def test_the_picture_is_well_formed_and_names_every_row_and_what_it_is_compared_with() -> None:
    """It is XML, whatever the rows are called; a missed goal stands out."""
    svg = picture.draw(MEASURED.rows)
    assert {"engine", "a<b", "slow", "idle", "cpu", "10: x & y"} <= set(texts(svg))
    assert "31 texts/sratio 3.10 (goal 1.6)" in texts(svg)
    assert [part.text for part in ET.fromstring(svg).iter() if part.get("class") == "missed"] == ["ratio 1.10"]


def test_every_row_is_explained() -> None:
    """docs/performance.md says of each what it measures, those of a GPU included."""
    explained = set(re.findall(r"`([a-z]+\.\w+)`", (ROOT / "docs" / "performance.md").read_text()))
    rows = {name for benchmark in BENCHMARKS for name in benchmark.names}
    assert rows | {name for benchmark in ON_GPU for name in benchmark.names} <= explained
