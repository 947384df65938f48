"""Which figures does docs/performance.md show? Those of the last `make bench`: `python -m benchmarks.page`."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks import picture, report
from benchmarks.machine import LIBRARIES
from benchmarks.report import Report, Row, number

BENCH = Path("build", "bench.json")
FOLDER, PAGE, PICTURE = Path("docs"), "performance.md", "benchmarks.svg"
BEGIN = "<!-- figures: written by python -m benchmarks.page -->"
END = "<!-- end of figures -->"


def main(arguments: list[str], folder: Path = FOLDER) -> int:
    """Write the figures of a run (`build/bench.json`, or the file named) into the page, and the picture beside it.

    The exit code: 0, 2 without such a file.
    """
    bench = Path(arguments[0]) if arguments else BENCH
    if not bench.is_file():
        print(f"{bench}: no such file; make bench writes it", file=sys.stderr)
        return 2
    measured, page = report.decode(bench.read_bytes()), folder / PAGE
    page.write_text(insert(page.read_text(encoding="utf-8"), figures(measured)), encoding="utf-8")
    (folder / PICTURE).write_text(picture.draw(measured.rows), encoding="utf-8")
    return 0


def figures(measured: Report) -> str:
    """The picture, the machine, a table of all rows, and why others are missing; Markdown."""
    lines = [
        f"![ours beside what it is compared with, row by row]({PICTURE})",
        "",
        f"On {_machine(measured.machine)}:",
        "",
        "| row | ours | baseline | ratio | of each run | goal | against |",
        "|---|---|---|---|---|---|---|",
        *(_line(row) for row in measured.rows),
    ]
    missing = {**measured.errors, **measured.skipped}
    if missing:
        lines += ["", "Not measured:", "", *(f"- `{name}`: {' '.join(why.split())}" for name, why in missing.items())]
    return "\n".join(lines)


def insert(page: str, block: str) -> str:
    """Put the figures where those of an earlier run are.

    Raises:
        ValueError: the page lacks the two comments that say where.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"no place for figures: the page needs a line {BEGIN!r} and, below it, one {END!r}")
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{after}"


def _machine(machine: dict[str, str | float]) -> str:
    facts = {name: value if isinstance(value, str) else f"{value:g}" for name, value in machine.items()}
    own = f"{facts['cores']} cores of {facts['cpu']}, {facts['memory_gib']} GiB, Python {facts['python']}"
    return ", ".join([own, *(f"{name} {facts[name]}" for name in LIBRARIES if name in facts)])


def _line(row: Row) -> str:
    spread = row.spread()
    cells = [
        f"`{row.name}`",
        f"{number(row.value)} {row.unit}",
        number(row.baseline_value),
        "" if row.ratio is None else f"**{row.ratio:.2f}**",
        "" if spread is None else f"{spread[0]:.2f}–{spread[1]:.2f}",
        "" if row.goal is None else f"{'≥' if row.better == 'higher' else '≤'} {number(row.goal)}",
        row.baseline or "",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
