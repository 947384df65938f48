"""How does something change over time, side by side? Pure: rows of numbers in, SVG out, for light and dark pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from benchmarks.report import number

WIDTH_PX: Final = 900
PANEL_PX: Final = 290
PLOT_PX: Final = 246
HEIGHT_PX: Final = 250
TOP_PX: Final = 70
BOTTOM_PX: Final = 215
KINDS: Final = ("ours", "other")
STYLE: Final = """
text { font: 12px sans-serif; fill: #59636e } .title { font-size: 14px; font-weight: bold; fill: #1f2328 }
.page { fill: #ffffff } .axis { stroke: #c3cad2 } .mark { stroke: #c3cad2; stroke-dasharray: 3 4 }
polyline { fill: none; stroke-width: 2 } .ours { stroke: #2f6fb0 } .other { stroke: #b35900 }
@media (prefers-color-scheme: dark) {
  text { fill: #9aa4ae } .title { fill: #e6edf3 } .page { fill: #0d1117 } .axis, .mark { stroke: #4b545e }
  .ours { stroke: #6cb0f5 } .other { stroke: #f0a04b }
}
"""


def draw(panels: Mapping[str, Sequence[Sequence[float]]], names: Sequence[str], mark: float) -> str:
    """A panel for each title, with a curve for each name; `mark` is a place along all of them, in steps."""
    parts = []
    for place, (name, kind) in enumerate(zip(names, KINDS, strict=True)):
        left = 12 + place * 150
        parts += [_line([(left, 18), (left + 26, 18)], kind), _text(left + 34, 22, name)]
    parts.append(_text(12 + len(names) * 150, 22, "minutes since the start; measured from the dotted line on"))
    for place, (title, rows) in enumerate(panels.items()):
        parts += _panel(12 + place * (PANEL_PX + 6), title, rows, mark)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH_PX} {HEIGHT_PX}" width="{WIDTH_PX}" '
        f'height="{HEIGHT_PX}">\n<style>{STYLE}</style>\n<rect width="100%" height="100%" class="page"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _panel(left: float, title: str, rows: Sequence[Sequence[float]], mark: float) -> list[str]:
    most, steps = max(map(max, rows)) or 1.0, max(map(len, rows))
    plot = left + 2

    def at(step: float, value: float) -> tuple[float, float]:
        return plot + PLOT_PX * step / steps, BOTTOM_PX - (BOTTOM_PX - TOP_PX) * value / most

    return [
        _text(left, TOP_PX - 20, title, "title"),
        _text(left, TOP_PX - 4, number(round(most, 2))),
        _line([at(0, 0), at(steps, 0)], "axis"),
        _line([at(0, 0), at(0, most)], "axis"),
        _line([at(mark, 0), at(mark, most)], "mark"),
        _text(plot, BOTTOM_PX + 16, "0"),
        _text(plot + PLOT_PX - 14, BOTTOM_PX + 16, str(steps)),
        *(
            _line([at(step + 1, value) for step, value in enumerate(row)], kind)
            for row, kind in reversed(list(zip(rows, KINDS, strict=True)))
        ),
    ]


def _line(points: Sequence[tuple[float, float]], kind: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" class="{kind}"/>'


def _text(left: float, line: float, words: str, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f'<text x="{left:.0f}" y="{line:.0f}"{attribute}>{escape(words)}</text>'
