"""How do ours and the baselines look side by side? Pure: rows in, SVG out, for light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby

from benchmarks.report import Row, number

WIDTH_PX, LINE_PX, ROW_PX, TITLE_PX = 900, 17, 44, 38
BARS_AT_PX, BARS_PX, TEXT_AT_PX = 232, 210, 452
BASELINE_CHARACTERS = 58
STYLE = """
text { font: 13px sans-serif; fill: #1f2328 } .page { fill: #ffffff } .ours { fill: #2f6fb0 } .other { fill: #c3cad2 }
.dim { fill: #59636e; font-size: 12px } .title { font-size: 15px; font-weight: bold } .ratio { font-weight: bold }
.missed { fill: #b35900; font-weight: bold }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .page { fill: #0d1117 } .ours { fill: #6cb0f5 } .other { fill: #4b545e }
  .dim { fill: #9aa4ae } .missed { fill: #f0a04b }
}
"""


def draw(rows: Sequence[Row]) -> str:
    """Two bars a row, ours above the baseline, the longer one as long as any other; by what is measured."""
    parts = [
        _text(
            12,
            22,
            "Ours (blue) above what it is compared with (grey). The bars of a row share a scale; ↓: less is better.",
            "dim",
        )
    ]
    top = LINE_PX * 2
    groups = {name: list(of) for name, of in groupby(sorted(rows, key=_group), _group)}
    for name in dict.fromkeys(map(_group, rows)):  # in the order of the rows
        parts.append(_text(12, top + 22, name, "title"))
        top += TITLE_PX
        for row in groups[name]:
            parts += _pair(row, top)
            top += ROW_PX
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH_PX} {top}" width="{WIDTH_PX}" height="{top}">\n'
        f'<style>{STYLE}</style>\n<rect width="100%" height="100%" class="page"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _group(row: Row) -> str:
    return row.name.partition(".")[0]


def _pair(row: Row, top: int) -> list[str]:
    """One row: its name, ours with the ratio, and below it the baseline; bars only where there are two."""
    lower = " ↓" if row.better == "lower" else ""
    parts = [
        _text(12, top + 13, row.name.partition(".")[2]),
        _text(TEXT_AT_PX, top + 13, f"{number(row.value)} {escape(row.unit)}{lower}{_ratio(row)}", raw=True),
    ]
    if row.baseline_value is None:
        return parts
    longest = max(row.value, row.baseline_value) or 1
    baseline = row.baseline or ""
    if len(baseline) > BASELINE_CHARACTERS:
        baseline = baseline[:BASELINE_CHARACTERS].rstrip() + "…"
    return [
        *parts,
        _bar(top, row.value / longest, "ours"),
        _bar(top + LINE_PX, row.baseline_value / longest, "other"),
        _text(TEXT_AT_PX, top + LINE_PX + 13, f"{number(row.baseline_value)}: {baseline}", "dim"),
    ]


def _ratio(row: Row) -> str:
    """As a part of the text's own markup; in another colour where the goal is missed."""
    if row.ratio is None:
        return ""
    kind = "missed" if row.met is False else "ratio"
    goal = "" if row.goal is None else f" (goal {number(row.goal)})"
    return f'<tspan class="{kind}" dx="12">ratio {row.ratio:.2f}</tspan><tspan class="dim">{goal}</tspan>'


def _bar(top: int, share: float, kind: str) -> str:
    width = max(1.0, BARS_PX * share)
    return f'<rect x="{BARS_AT_PX}" y="{top + 2}" width="{width:.1f}" height="{LINE_PX - 3}" rx="2" class="{kind}"/>'


def _text(left: int, line: int, words: str, kind: str = "", *, raw: bool = False) -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f'<text x="{left}" y="{line}"{attribute}>{words if raw else escape(words)}</text>'
