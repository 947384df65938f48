"""Which options does `embedmq reindex` take?"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import TypedDict, TypeVar

import click

from embedmq.bulk.checkpoint import Mode
from embedmq.bulk.failed import path_for
from embedmq.bulk.order import OnFlaw, Order, name_for
from embedmq.bulk.rows import MAX_BLOCK_ROWS, BulkDtype, Columns
from embedmq.errors import InvalidRequest

_F = TypeVar("_F", bound=Callable[..., object])
_COUNT = click.IntRange(min=1)
_SECONDS = click.FloatRange(min=0, min_open=True)


class Ordered(TypedDict):
    """The values of `order_options`."""

    model: str
    source: str
    sink: str
    name: str | None
    text: str
    id: str | None
    keep: tuple[str, ...]
    prompt_name: str | None
    prompt: str | None
    dimensions: int | None
    dtype: BulkDtype
    normalize: bool | None
    truncate: bool
    tenant: str
    missing_only: bool
    changed_only: bool
    limit: int | None
    restart: bool
    on_error: OnFlaw
    max_failures: int | None
    rate: float | None
    failed: Path | None
    batch: int
    in_flight: int
    commit_rows: int
    commit_s: float
    patience_s: float


_OPTIONS = [
    click.option("--model", required=True, help="Which model."),
    click.option("--source", required=True, metavar="ADDRESS", help="Where the rows are: a path, a glob or a URI."),
    click.option("--sink", required=True, metavar="ADDRESS", help="Where the vectors go: a path or a URI."),
    click.option("--name", metavar="JOB", help="Of the job; without, one is made of model, source and sink."),
    click.option("--text", default="text", show_default=True, metavar="COLUMN", help="The column to embed."),
    click.option("--id", metavar="COLUMN", help="Names the rows; without, `id` if it is there, else their numbers."),
    click.option("--keep", multiple=True, metavar="COLUMN", help="Goes to the sink, too. May be repeated."),
    click.option("--prompt-name", help="A prompt that the model knows, such as `document`."),
    click.option("--prompt", help="A text to put before each text."),
    click.option("--dimensions", type=_COUNT, help="Keep this many, for models that allow it."),
    click.option("--dtype", type=click.Choice(["float32", "float16"]), default="float32", show_default=True),
    click.option("--normalize/--no-normalize", default=None, help="Length 1, or as the model leaves it."),
    click.option("--truncate/--no-truncate", default=True, show_default=True, help="Cut long texts, or fail them."),
    click.option("--tenant", default="", help="Whose job it is."),
    click.option("--missing-only", is_flag=True, help="Only rows whose ids the sink has not."),
    click.option("--changed-only", is_flag=True, help="Only rows that the sink has not with this text and model."),
    click.option("--limit", type=_COUNT, metavar="ROWS", help="Embed so many at most."),
    click.option("--restart", is_flag=True, help="From the first row, whatever was done; what is in the sink stays."),
    click.option("--on-error", type=click.Choice(["continue", "stop"]), default="continue", show_default=True),
    click.option("--max-failures", type=click.IntRange(min=0), metavar="ROWS", help="Stop when more have failed."),
    click.option("--rate", type=_SECONDS, metavar="ROWS_PER_S", help="Send no more than so many a second."),
    click.option(
        "--failed",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="For rows that fail.  [default: JOB.failed.jsonl]",
    ),
    click.option(
        "--batch",
        type=click.IntRange(1, MAX_BLOCK_ROWS),
        default=64,
        show_default=True,
        help="Rows that travel together.",
    ),
    click.option("--in-flight", type=_COUNT, default=2_048, show_default=True, help="Rows that wait for vectors."),
    click.option("--commit-rows", type=_COUNT, default=50_000, show_default=True, help="Commit after so many rows …"),
    click.option("--commit-s", type=_SECONDS, default=30.0, show_default=True, help="… or seconds."),
    click.option(
        "--patience-s",
        type=click.FloatRange(min=0),
        default=300.0,
        show_default=True,
        help="Wait so long for what is away: source, sink, fleet.",
    ),
]


def order_options(command: _F) -> _F:
    """Add the options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def order_of(ordered: Ordered) -> Order:
    """The job that the options describe; raises UsageError."""
    if ordered["missing_only"] and ordered["changed_only"]:
        raise click.UsageError("--missing-only is part of --changed-only: give one of them")
    mode: Mode = "missing" if ordered["missing_only"] else "changed" if ordered["changed_only"] else "all"
    name = ordered["name"] or name_for(ordered["model"], ordered["source"], ordered["sink"])
    max_failures, rate = ordered["max_failures"], ordered["rate"]
    try:
        return Order(
            model=ordered["model"],
            source=ordered["source"],
            sink=ordered["sink"],
            name=name,
            columns=Columns(text=ordered["text"], id=ordered["id"], keep=ordered["keep"]),
            prompt_name=ordered["prompt_name"],
            prompt=ordered["prompt"],
            dimensions=ordered["dimensions"],
            dtype=ordered["dtype"],
            normalize=ordered["normalize"],
            truncate=ordered["truncate"],
            tenant=ordered["tenant"],
            mode=mode,
            limit=ordered["limit"],
            restart=ordered["restart"],
            on_error=ordered["on_error"],
            max_failures=inf if max_failures is None else max_failures,
            rows_per_s=inf if rate is None else rate,
            failed=ordered["failed"] or path_for(name),
            rows_per_request=ordered["batch"],
            rows_in_flight=ordered["in_flight"],
            commit_rows=ordered["commit_rows"],
            commit_s=ordered["commit_s"],
            patience_s=ordered["patience_s"],
        )
    except InvalidRequest as error:
        raise click.UsageError(str(error)) from None
