"""How are results written, for people and for programs?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click
import msgspec

SHOWN_NUMBERS = 4


def json_line(value: object) -> None:
    """One JSON value on a line of its own."""
    click.echo(msgspec.json.encode(value))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns for people."""
    lines = [head, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def short(numbers: Sequence[float]) -> str:
    """The first numbers of a vector."""
    shown = " ".join(f"{number:.4g}" for number in numbers[:SHOWN_NUMBERS])
    return f"{shown} …" if len(numbers) > SHOWN_NUMBERS else shown
