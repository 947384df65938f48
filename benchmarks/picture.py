"""How do the ratios look side by side? Pure: rows in, SVG out."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from benchmarks.report import Row, number

LINE_PX, LABEL_PX, BARS_PX, VALUES_PX = 26, 250, 360, 330
ARROWS = {"higher": "↑", "lower": "↓"}  # which way is better


def draw(rows: Sequence[Row]) -> str:
    """One bar a row, as long as its ratio, with a mark at 1, where ours and the baseline are equal."""
    longest = max([1.0, *(row.ratio for row in rows if row.ratio is not None)])
    height = LINE_PX * (len(rows) + 1)
    width = LABEL_PX + BARS_PX + VALUES_PX
    one = LABEL_PX + BARS_PX / longest
    bars = "\n".join(_bar(row, LINE_PX * (i + 1), longest) for i, row in enumerate(rows))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' font-family="sans-serif" font-size="13">\n<rect width="100%" height="100%" fill="white"/>\n'
        f'<text x="8" y="17" fill="#555">ours ÷ baseline; the arrow says what is better</text>\n{bars}\n'
        f'<line x1="{one:.1f}" x2="{one:.1f}" y1="{LINE_PX - 4}" y2="{height}" stroke="#333" stroke-dasharray="4 3"/>\n'
        f"</svg>\n"
    )


def _bar(row: Row, top: int, longest: float) -> str:
    length = BARS_PX * (row.ratio or 0) / longest
    if row.ratio is None:
        text = f"{number(row.value)} {row.unit}"
    else:
        text = f"{row.ratio:.2f}   ({number(row.value)} : {number(row.baseline_value)} {row.unit})"
    end = LABEL_PX + BARS_PX if row.ratio is not None else LABEL_PX
    return (
        f'<text x="8" y="{top + 15}">{escape(row.name)} {ARROWS[row.better]}</text>'
        f'<rect x="{LABEL_PX}" y="{top + 3}" width="{length:.1f}" height="{LINE_PX - 10}" fill="#4878a8"/>'
        f'<text x="{end + 8}" y="{top + 15}">{escape(text)}</text>'
    )
