"""Which columns are there, how wide is each, and what does it sort by? Pure.

A terminal of 80 columns shows all that are not `wide`; what is left over goes to the one that `grows`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from embedmq_schemas.catalogue import LaneLag
from msgspec import Struct

from embedmq.top.view import NO_LAG, ModelRow, WorkerRow
from embedmq.top.words import age, clip, count, share

Row = TypeVar("Row", ModelRow, WorkerRow)

WIDE: Final = 120
"""From this width on all columns are shown, and states in words."""
MOST_GROWN: Final = 63
"""As wide as the longest name of a model a column grows."""
FULL: Final = {"unserved": "off"}
BRIEF: Final = {"resident": "res", "loading": "load", "failing": "fail", "absent": "abs", "unserved": "off"}
WORST_FIRST: Final = ("failing", "loading", "resident", "absent", "unserved")


class Column(Struct, Generic[Row], frozen=True, kw_only=True):
    """One column; `sorts` by a number or a text, the numbers largest first."""

    key: str
    head: str
    width: int
    cell: Callable[[Row, bool], str]
    """Of a row, in full where there is room."""
    sorts: Callable[[Row], float | str]
    left: bool = False
    wide: bool = False
    grows: bool = False


def state(row: ModelRow, full: bool) -> str:
    """What is wrong comes first, since a narrow column cuts the end off."""
    states: list[str] = [name for name in WORST_FIRST if name in row.states]
    states += sorted(row.states.keys() - set(WORST_FIRST))  # of a later version
    words = [f"{row.states[name]} {FULL.get(name, name) if full else BRIEF.get(name, name[:4])}" for name in states]
    marks = [("paused" if full else "PAUSED", row.paused), ("thrashing" if full else "thrash", row.thrashing)]
    ahead = [word for word, number in marks if number]
    return (", " if full else " ").join([*ahead, *words, *(["pinned" if full else "pin"] if row.pinned else [])])


def memory(row: WorkerRow, _full: bool) -> str:
    """Used and budget."""
    return f"{count(row.memory_bytes)}/{count(row.memory_budget_bytes)}"


def partitions(row: WorkerRow, _full: bool) -> str:
    """By reader: interactive, bulk, retry."""
    return "/".join(str(row.partitions[key]) for key in ("interactive", "bulk", "retry") if key in row.partitions)


def _lane(lane: str, head: str) -> tuple[Column[ModelRow], ...]:
    def lag(row: ModelRow) -> LaneLag:
        return row.lag.get(lane, NO_LAG)

    def told(row: ModelRow, cell: str) -> str:
        return cell if lane in row.lag else "-"  # nobody reads it, so nobody knows

    return (
        Column(
            key=f"{lane}.records",
            head=f"{head} REQ",
            width=8,
            wide=True,
            cell=lambda row, _: told(row, count(lag(row).records)),
            sorts=lambda row: lag(row).records,
        ),
        Column(
            key=f"{lane}.tokens",
            head=f"{head} TOK",
            width=8,
            cell=lambda row, _: told(row, count(lag(row).tokens)),
            sorts=lambda row: lag(row).tokens,
        ),
        Column(
            key=f"{lane}.age",
            head="AGE",
            width=4,
            cell=lambda row, _: told(row, age(lag(row).oldest_s)),
            sorts=lambda row: lag(row).oldest_s,
        ),
    )


def _text(key: str, head: str, width: int, of: Callable[[WorkerRow], str], *, grows: bool = False) -> Column[WorkerRow]:
    return Column(key=key, head=head, width=width, left=True, grows=grows, cell=lambda row, _: of(row) or "-", sorts=of)


MODELS: Final[Sequence[Column[ModelRow]]] = (
    Column(key="model", head="MODEL", width=11, left=True, grows=True, cell=lambda row, _: row.model,
           sorts=lambda row: row.model),
    *_lane("interactive", "LIVE"),
    *_lane("bulk", "BULK"),
    Column(key="items_per_s", head="TEXT/S", width=6, cell=lambda row, _: count(row.items_per_s),
           sorts=lambda row: row.items_per_s),
    Column(key="tokens_per_s", head="TOK/S", width=5, cell=lambda row, _: count(row.tokens_per_s),
           sorts=lambda row: row.tokens_per_s),
    Column(key="batch_fill", head="FILL", width=4, cell=lambda row, _: share(row.batch_fill),
           sorts=lambda row: -1.0 if row.batch_fill is None else row.batch_fill),
    Column(key="failed_per_s", head="FAIL/S", width=6, cell=lambda row, _: count(row.failed_per_s),
           sorts=lambda row: row.failed_per_s),
    Column(key="state", head="STATE", width=12, left=True, cell=state, sorts=lambda row: state(row, True)),
)  # fmt: skip
WORKERS: Final[Sequence[Column[WorkerRow]]] = (
    _text("id", "WORKER", 12, lambda row: row.id),
    _text("host", "HOST", 8, lambda row: row.host, grows=True),
    _text("device", "DEVICE", 6, lambda row: row.device),
    Column(key="busy", head="BUSY", width=4, cell=lambda row, _: share(row.busy),
           sorts=lambda row: -1.0 if row.busy is None else row.busy),
    Column(key="memory", head="MEMORY", width=9, cell=memory, sorts=lambda row: row.memory_bytes),
    Column(key="in_flight", head="ITEMS", width=5, cell=lambda row, _: count(row.in_flight_items),
           sorts=lambda row: row.in_flight_items),
    Column(key="partitions", head="PARTS", width=10, cell=partitions, sorts=lambda row: sum(row.partitions.values())),
    Column(key="models", head="MODELS", width=6, cell=lambda row, _: f"{count(row.resident)}/{count(row.models)}",
           sorts=lambda row: row.resident),
    _text("version", "VERSION", 7, lambda row: row.version),
    Column(key="refused", head="REF", width=3, cell=lambda row, _: count(len(row.refused)),
           sorts=lambda row: len(row.refused)),
)  # fmt: skip


def widths(columns: Sequence[Column[Row]], room: int) -> dict[str, int]:
    """The columns that are shown in so much room, by key, and how wide each is, with one blank between two.

    Of what is left over half goes to the states, where there are any, since only there it is said in words.
    """
    shown = {column.key: column.width for column in columns if room >= WIDE or not column.wide}
    left = max(0, room - sum(shown.values()) - (len(shown) - 1))
    if "state" in shown:
        more = left // 2
        shown["state"] += more
        left -= more
    for column in columns:
        if column.grows:
            shown[column.key] = min(shown[column.key] + left, max(MOST_GROWN, column.width))
    return shown


def cells(row: Row, columns: Sequence[Column[Row]], shown: dict[str, int], full: bool) -> list[str]:
    """The cells of one row, each as wide as its column."""
    return [align(column, column.cell(row, full), shown[column.key]) for column in columns if column.key in shown]


def heads(columns: Sequence[Column[Row]], shown: dict[str, int]) -> list[str]:
    """The head of each column, as wide as the column."""
    return [align(column, column.head, shown[column.key]) for column in columns if column.key in shown]


def align(column: Column[Row], text: str, width: int) -> str:
    """Numbers to the right, texts to the left."""
    clipped = clip(text, width)
    return clipped.ljust(width) if column.left else clipped.rjust(width)


def order(rows: Sequence[Row], column: Column[Row], *, reverse: bool) -> list[Row]:
    """Numbers from the largest, texts from A; `reverse` turns both round. Equal ones stay as they were."""
    numbers = any(not isinstance(column.sorts(row), str) for row in rows[:1])
    return sorted(rows, key=column.sorts, reverse=numbers is not reverse)


def matching(rows: Sequence[Row], words: str, name: Callable[[Row], str]) -> list[Row]:
    """Those whose names contain all words."""
    wanted = words.lower().split()
    return [row for row in rows if all(word in name(row).lower() for word in wanted)]
