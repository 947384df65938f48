"""Measure the rows that are asked for, write `build/bench.json` and `build/bench.svg`, print a table."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from embedmq_local.progress import TerminalProgress
from embedmq_local.stack import Stack

from benchmarks import harness, picture, report
from benchmarks.place import Place
from benchmarks.rows import BENCHMARKS

BUILD = Path("build")
USAGE = "usage: python -m benchmarks [ROW,…]   (a row, or how its name begins; all without)"


def main(arguments: list[str]) -> int:
    """The exit code: 0, 1 when a row failed, 2 when there is no such row."""
    if any(argument.startswith("-") for argument in arguments):
        print(USAGE, file=sys.stderr)
        return 2
    try:
        chosen = harness.select(BENCHMARKS, [row for argument in arguments for row in argument.split(",") if row])
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    # it warns of every partition whose leader takes a moment to begin, and tries again
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    with Stack(progress=TerminalProgress()) as stack:
        measured = harness.run(Place(stack, say), chosen, harness.Scale())
    write(measured, BUILD)
    print(report.table(measured))
    return 1 if measured.errors else 0


def write(measured: report.Report, folder: Path) -> None:
    """Leave the file and the picture."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_bytes(report.encode(measured))
    (folder / "bench.svg").write_text(picture.draw(measured.rows), encoding="utf-8")


def say(text: str) -> None:
    """Progress, beside the table."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
