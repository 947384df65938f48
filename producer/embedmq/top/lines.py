"""What is said in lines: of the fleet, of the selected model, and as the plain table of `--once`? Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from embedmq.top.columns import MODELS, WORKERS, Column, Row, cells, heads, state, widths
from embedmq.top.view import FleetRow, ModelRow, View
from embedmq.top.words import age, clip, count

SEPARATOR = " · "


def title(view: View) -> str:
    """Whose fleet it is, how large, and when it was read."""
    fleet = view.fleet
    at = datetime.fromtimestamp(view.read_unix_ms / 1000).astimezone()
    parts = [f"EmbedMQ {view.prefix}", _many(fleet.workers, "worker"), _many(fleet.models, "model"), f"{at:%H:%M:%S}"]
    if fleet.silent_workers:
        parts.insert(3, f"{fleet.silent_workers} too old to say more")
    if len(fleet.versions) > 1:
        parts.insert(3, f"{len(fleet.versions)} versions")
    return SEPARATOR.join(parts)


def sums(fleet: FleetRow) -> str:
    """What it does, what waits and what fails."""
    lag = fleet.lag
    return SEPARATOR.join(
        [
            f"{count(fleet.items_per_s)} texts/s",
            f"{count(fleet.tokens_per_s)} tokens/s",
            f"lag {count(lag.tokens)} tokens ({count(lag.records)} requests), {age(lag.oldest_s)}",
            f"{count(fleet.failed_per_s)} failed/s",
        ]
    )


def detail(row: ModelRow) -> tuple[str, str, str]:
    """All of one model: how it is, what waits for it, and what is wrong with it."""
    waits = [
        f"{lane}: {count(lag.tokens)} tokens ({count(lag.records)} requests), {age(lag.oldest_s)}"
        for lane, lag in row.lag.items()
    ]
    wrong = [f"{worker} refused: {why}" for worker, why in row.refused.items()] + row.errors
    return (
        SEPARATOR.join([row.model, state(row, True) or "no worker has it"]),
        SEPARATOR.join(waits),
        SEPARATOR.join(wrong),
    )


def page(view: View, room: int) -> Iterator[str]:
    """Everything, as a table for people."""
    yield clip(title(view), room)
    yield clip(sums(view.fleet), room)
    yield ""
    yield from _table(view.models, MODELS, room)
    yield ""
    yield from _table(view.workers, WORKERS, room)


def _table(rows: Sequence[Row], columns: Sequence[Column[Row]], room: int) -> Iterator[str]:
    shown, full = widths(columns, room), room >= 120
    yield " ".join(heads(columns, shown)).rstrip()
    for row in rows:
        yield " ".join(cells(row, columns, shown, full)).rstrip()


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
