"""How does a fleet fare by each way of assigning partitions? `make simulate` says; `--docs` puts it into docs/scale.md.

The policies are simulated beside each other, a process each, as many at a time as there are cores.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks import chart, fleet
from benchmarks.fleet import Outcome, Size
from benchmarks.policies import POLICIES
from benchmarks.report import number

BUILD = Path("build", "simulate.json")
FOLDER, PAGE, PICTURE, DATA = Path("docs"), "scale.md", "scale.svg", "scale.json"
BEGIN = "<!-- simulated: written by python -m benchmarks.simulate --docs -->"
END = "<!-- end of simulated -->"


class Result(Struct, frozen=True):
    """What one command simulated, when, and how long that took."""

    size: Size
    warm_s: float
    measured_s: float
    date: str
    took_s: float
    outcomes: list[Outcome]


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0, 2 when there is nothing to write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulate", description="Simulate a fleet of workers.")
    parser.add_argument("--seed", type=int, default=Size().seed, help="of all that is left to chance")
    parser.add_argument("--workers", type=int, default=Size().workers)
    parser.add_argument("--models", type=int, default=Size().models)
    parser.add_argument("--docs", action="store_true", help="simulate nothing: write the last result into docs/")
    options = parser.parse_args(arguments)
    if options.docs:
        if not BUILD.is_file():
            print(f"{BUILD}: no such file; make simulate writes it", file=sys.stderr)
            return 2
        write(decode(BUILD.read_bytes()), FOLDER)
        return 0
    result = run(Size(options.seed, options.workers, options.models))
    BUILD.parent.mkdir(exist_ok=True)
    BUILD.write_bytes(encode(result))
    print(figures(result))
    return 0


def run(size: Size, warm_s: float = fleet.WARM_S, measured_s: float = fleet.MEASURED_S) -> Result:
    """Simulate every policy."""
    start_s = time.monotonic()
    one = partial(fleet.simulate, size=size, warm_s=warm_s, measured_s=measured_s)
    with ProcessPoolExecutor(min(len(POLICIES), os.cpu_count() or 1), get_context("spawn")) as pool:
        outcomes = list(pool.map(one, POLICIES))
    return Result(size, warm_s, measured_s, time.strftime("%Y-%m-%d"), round(time.monotonic() - start_s), outcomes)


def encode(result: Result) -> bytes:
    """As JSON."""
    return msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n"


def decode(data: bytes) -> Result:
    """What `encode` wrote."""
    return msgspec.json.decode(data, type=Result)


def write(result: Result, folder: Path) -> None:
    """Put the figures into the page, the picture and what both are made of beside it.

    Raises:
        ValueError: the page lacks the two comments that say where.
    """
    page = folder / PAGE
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"no place for figures: {page} needs a line {BEGIN!r} and, below it, one {END!r}")
    page.write_text(f"{before}{BEGIN}\n\n{figures(result)}\n\n{END}{after}", encoding="utf-8")
    (folder / PICTURE).write_text(picture(result), encoding="utf-8")
    (folder / DATA).write_bytes(encode(result))


def figures(result: Result) -> str:
    """What was simulated, the picture and a table; Markdown."""
    size = result.size
    command = f"make simulate SEED={size.seed} WORKERS={size.workers} MODELS={size.models}"
    spans = f"{number(result.measured_s / 60)} minutes of the fleet, after {number(result.warm_s / 60)} to warm up"
    lines = [
        f"`{command}` on {result.date}, {number(result.took_s)} s for all: {spans}.",
        "",
        f"![device use, loads and age minute by minute]({PICTURE})",
        "",
        "| assignment | device use | loads an hour | p50 age | p99 age | done | not done | moved | decision |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_line(outcome) for outcome in result.outcomes),
    ]
    return "\n".join(lines)


def picture(result: Result) -> str:
    """Minute by minute, one curve for each policy; SVG."""
    panels = {
        "device use": [[minute.device_use for minute in it.minutes] for it in result.outcomes],
        "models loaded a minute": [[float(minute.loads) for minute in it.minutes] for it in result.outcomes],
        "p99 age, s": [[minute.p99_age_s for minute in it.minutes] for it in result.outcomes],
    }
    return chart.draw(panels, [outcome.policy for outcome in result.outcomes], result.warm_s / 60)


def _line(it: Outcome) -> str:
    cells = [
        it.policy,
        f"{it.device_use:.1%}",
        number(round(it.loads_per_hour)),
        f"{number(it.p50_age_s)} s",
        f"{number(it.p99_age_s)} s",
        number(it.done),
        number(it.undone),
        f"{it.moved:.1%}",
        f"{it.decision_s:.2f} s",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
