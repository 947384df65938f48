"""What did a row find out? Counts to be added up, and the line that is printed."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

CLAIM = 100


class Figures(Struct, kw_only=True):
    """One row's; everything only grows while the row runs."""

    row: str
    claim: str = ""
    rounds: int = 0
    strikes: Counter[str] = field(default_factory=Counter[str])
    """Faults, by kind."""
    in_flight: int = 0
    """How many of them struck while a batch was on a device, or a request under way to one."""
    ids: int = 0
    answers: int = 0
    repeated: int = 0
    """Answers beyond the first, which callers ignore."""
    computed_twice: int = 0
    computed_twice_bound: int = 0
    lost: int = 0
    second_results: int = 0
    commits_checked: int = 0
    recovery_s: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """From the end of a fault until all that was open when it struck was answered, by kind."""
    idle_share: list[float] = field(default_factory=list[float])
    """After a recovery, until what was open was answered: part of the time without a batch on any device."""
    peak_rss_bytes: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list[str])
    notes: dict[str, Any] = field(default_factory=dict[str, Any])
    """Further numbers of this row."""

    @property
    def ok(self) -> bool:
        """A row in which no fault struck while something was in flight has shown nothing."""
        return not self.problems and self.in_flight > 0

    def line(self) -> str:
        """`row  claim  ok/FAILED  faults  ids  seconds`."""
        verdict = "ok" if self.ok else "FAILED"
        numbers = f"{self.in_flight:>4}  {self.ids:>6}  {self.seconds:>6.1f}"
        return f"{self.row:>4}  {self.claim:<{CLAIM}.{CLAIM}}  {verdict:<6}  {numbers}"

    def complaints(self) -> list[str]:
        """Why it failed."""
        empty = [] if self.in_flight else ["no fault struck while something was in flight: nothing was shown"]
        return [*self.problems, *empty]


HEAD = f"{'row':>4}  {'claim':<{CLAIM}}  {'':<6}  {'hits':>4}  {'ids':>6}  {'s':>6}"


def total(rows: Sequence[Figures], seed: int) -> dict[str, Any]:
    """What `build/faults.json` says, before its rows."""
    strikes: Counter[str] = Counter()
    recoveries: dict[str, list[float]] = {}
    for row in rows:
        strikes.update(row.strikes)
        for kind, seconds in row.recovery_s.items():
            recoveries.setdefault(kind, []).extend(seconds)
    idle = [share for row in rows for share in row.idle_share]
    return {
        "seed": seed,
        "rows_failed": [row.row for row in rows if not row.ok],
        "rounds": sum(row.rounds for row in rows),
        "strikes": dict(sorted(strikes.items())),
        "strikes_total": strikes.total(),
        "kills": sum(count for kind, count in strikes.items() if "kill -9" in kind),
        "strikes_in_flight": sum(row.in_flight for row in rows),
        "ids_accepted": sum(row.ids for row in rows),
        "results_visible": sum(row.answers for row in rows),
        "answers_repeated": sum(row.repeated for row in rows),
        "items_computed_twice": sum(row.computed_twice for row in rows),
        "items_computed_twice_bound": sum(row.computed_twice_bound for row in rows),
        "lost": sum(row.lost for row in rows),
        "second_results": sum(row.second_results for row in rows),
        "commits_checked": sum(row.commits_checked for row in rows),
        "recovery_s": {
            kind: {"p50": round(statistics.median(found), 2), "max": round(max(found), 2), "count": len(found)}
            for kind, found in sorted(recoveries.items())
        },
        "peak_rss_bytes": max((row.peak_rss_bytes for row in rows), default=0),
        "peak_rss_bytes_at_overload": next(
            (row.notes["peak_rss_bytes"] for row in rows if "peak_rss_bytes" in row.notes), None
        ),
        "idle_share_after_recovery": round(statistics.median(idle), 3) if idle else None,
        "seconds": round(sum(row.seconds for row in rows), 1),
    }
