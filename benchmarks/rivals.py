"""Which is faster on one model, our engine or sentence-transformers at its best?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from embedmq_worker.choose import Budget
from embedmq_worker.config import Model

from benchmarks import plain
from benchmarks.checkpoints import Recipe, folder, write_apart
from benchmarks.child import child
from benchmarks.cpu import Cpu
from benchmarks.direct import Direct
from benchmarks.plain import Kind, Setting
from benchmarks.report import Row
from benchmarks.side import Side, compare, measure
from benchmarks.work import Calls, Work

SWEEP_SHARE = 2


@dataclass(frozen=True)
class Rivals:
    """Both, loaded, with the processes they are in and what the other one may be set to."""

    ours: Callable[[Work[Budget | None]], float]
    theirs: Callable[[Work[Setting]], float]
    pids: tuple[int, int]
    choice: Sequence[Setting]
    say: Callable[[str], None]

    def best(self, calls: Calls) -> Setting:
        """What suits sentence-transformers best, on half of the calls (or half of the only one)."""
        some = calls[: len(calls) // SWEEP_SHARE] or [calls[0][: max(1, len(calls[0]) // SWEEP_SHARE)]]
        found = plain.fastest(self.theirs, some, self.choice)
        self.say(f"  sentence-transformers is fastest with {found}")
        return found

    def race(
        self,
        name: str,
        calls: Calls,
        setting: Setting,
        runs: int,
        *,
        goal: float | None = None,
        unit: str = "texts/s",
        weight: int = 1,
    ) -> Row:
        """Both on the same calls, in turn; see `Side` for `weight`."""
        ours, theirs = self.pids
        one = Side("ours", calls, lambda it: self.ours(Work(it, None)), Cpu({"engine": ours}), self.say, weight)
        alone = Cpu({"encoder": theirs})
        other = Side("theirs", calls, lambda it: self.theirs(Work(it, setting)), alone, self.say, weight)
        measure([one, other], runs)
        return compare(name, one, other, f"sentence-transformers, {setting}", goal, unit)


class Enter(Protocol):
    """How both are brought to one model."""

    def __call__(
        self, source: str | Recipe, say: Callable[[str], None], kind: Kind = "embeds"
    ) -> AbstractContextManager[Rivals]:
        """`source` is a checkpoint, or one to be written for this."""
        ...


@contextmanager
def apart(source: str | Recipe, say: Callable[[str], None], kind: Kind = "embeds") -> Iterator[Rivals]:
    """Each in a process of its own; ours is loaded last, as it measures the device when it loads."""
    with (
        folder(source, write_apart) as there,
        child(partial(plain.start, kind, there)) as theirs,
        child(partial(Direct, Model(checkpoint=there))) as ours,
    ):
        yield Rivals(ours, theirs, (ours.pid, theirs.pid), plain.ON_CPU, say)
