"""How fast is each of several ways to encode the same texts?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from benchmarks.cpu import Cpu
from benchmarks.harness import interleave
from benchmarks.report import Row, Run, row
from benchmarks.work import Calls, count

WARM_REQUESTS, WARM_CALLS = 64, 2
Part = Callable[[Calls], Calls]


def little(calls: Calls) -> Calls:
    """A few requests of a few calls."""
    return [call[:WARM_REQUESTS] for call in islice(calls, WARM_CALLS)]


@dataclass
class Side:
    """One way to encode them, and how many a second it did in each run."""

    name: str
    calls: Calls
    seconds: Callable[[Calls], float]
    cpu: Cpu
    say: Callable[[str], None]
    weight: int = 1
    """What one text counts: 1, or its tokens where those are what is counted."""
    rates: list[float] = field(default_factory=list)

    def warm(self, part: Part) -> None:
        """Some of the work, which does not count."""
        self.seconds(part(self.calls))

    def run(self) -> None:
        """Encode all of them once."""
        texts = count(self.calls)
        self.cpu.start()
        self.rates.append(texts * self.weight / self.seconds(self.calls))
        self.cpu.stop(texts)
        self.say(f"  {self.name}: {self.rates[-1]:,.1f}/s")


def measure(sides: Sequence[Side], runs: int, warm: Part = little) -> None:
    """Do `warm` of the work, then run all of them in turn."""
    for side in sides:
        side.warm(warm)
    interleave(runs, [partial(Side.run, side) for side in sides])


def compare(name: str, ours: Side, other: Side, baseline: str, goal: float | None = None, unit: str = "texts/s") -> Row:
    """Their rates, side by side."""
    runs = [Run(a, b) for a, b in zip(ours.rates, other.rates, strict=True)]
    cpu_us = {"ours": ours.cpu.per_request_us(), "baseline": other.cpu.per_request_us()}
    return row(name, unit, "higher", runs, baseline, cpu_us, goal)
