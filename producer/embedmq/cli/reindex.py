"""What does `embedmq reindex` do?"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Unpack

import click
import msgspec
from embedmq_schemas.invocation import Invocation

from embedmq.bulk.order import Order
from embedmq.cli.bars import Progress, show
from embedmq.cli.connecting import setup_of
from embedmq.cli.exits import FAILED, INTERRUPTED
from embedmq.cli.options import invocation_of
from embedmq.cli.output import json_line
from embedmq.cli.reindex_options import Ordered, order_of, order_options

if TYPE_CHECKING:
    from embedmq.bulk.board import Board
    from embedmq.bulk.status import JobStatus
    from embedmq.client import Client


@click.command()
@order_options
@click.option("--dry-run", is_flag=True, help="Count, estimate tokens and time, write nothing.")
@click.pass_context
def reindex(context: click.Context, dry_run: bool, **ordered: Unpack[Ordered]) -> None:
    r"""Embed every row of a source into a sink, in the bulk lane. The same command goes on where it was stopped.

    Sources: JSONL, CSV, Parquet (a file, a folder or a glob), postgresql://…?table=…, kafka://host/topic.
    Sinks: .parquet, .jsonl, .npy (folders of parts), postgresql://…?table=…, qdrant://…, lancedb://…, kafka://….

    \b
    Example:
      embedmq reindex --model minilm --source docs.jsonl --sink vectors.parquet
      embedmq reindex --model minilm --source 'postgresql://me@db/shop?table=docs' --text body --id doc_id \
          --sink 'postgresql://me@db/shop?table=docs&vector=embedding' --changed-only
    """
    invocation = invocation_of(context)
    order = order_of(ordered)
    if dry_run:
        _run(invocation, order, lambda client, _board: _estimate(client, order, json=invocation.json))
        return
    with show(json=invocation.json) as progress:
        status = _embed(invocation, order, progress)
    if status.message:
        click.echo(f"embedmq: job {order.name}: {status.message}", err=True)
    if status.rows_failed:
        click.echo(f"embedmq: {_rows(status.rows_failed)} failed: see {order.failed}", err=True)
        context.exit(FAILED)


def _embed(invocation: Invocation, order: Order, progress: Progress) -> JobStatus:
    ended: list[JobStatus] = []

    async def work(client: Client, board: Board) -> None:
        from embedmq.bulk.job import Job

        ended.append(await Job(client, order, board, progress.update, progress.note).run())

    try:
        _run(invocation, order, work)
    except KeyboardInterrupt:
        progress.note(f"embedmq: job {order.name} is stopped, its rows are kept: {order.to_go_on}")
        raise
    return ended[0]


async def _estimate(client: Client, order: Order, *, json: bool) -> None:
    from embedmq.bulk.estimate import estimate
    from embedmq.bulk.shape import look

    shape, max_text_bytes = await look(client, order)
    found = await estimate(client, order, shape, max_text_bytes)
    if json:
        json_line(msgspec.to_builtins(found))
        return
    click.echo(f"{_rows(found.rows)} to embed, {found.skipped:,} in the sink already, {found.failed:,} that would fail")
    if found.sample_rows:
        click.echo(
            f"about {found.tokens:,} tokens and {found.seconds:,.0f} s, by a sample of {_rows(found.sample_rows)}"
        )


def _run(invocation: Invocation, order: Order, work: Callable[[Client, Board], Awaitable[None]]) -> None:
    """Start a client with room for a job, and a board."""
    setup = setup_of(invocation)
    room = max(setup.max_in_flight_items, order.rows_in_flight)

    async def run() -> None:
        from embedmq_schemas.names import Names

        from embedmq.bulk.board import Board
        from embedmq.client import Client
        from embedmq.store import Store

        _end_on_signals(asyncio.current_task())
        if setup.redis is None:
            raise click.UsageError("a bulk job wants Redis, where answers come back: --redis URL")
        store = Store(setup.redis, setup.connect_timeout_s)
        try:
            async with Client.of(msgspec.structs.replace(setup, max_in_flight_items=room)) as client:
                await store.start()
                await work(client, Board(store, Names(setup.prefix)))
        finally:
            await store.stop()

    try:
        asyncio.run(run())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _end_on_signals(task: asyncio.Task[None] | None) -> None:
    """The first Ctrl-C or SIGTERM lets the write under way end and commits; the second does not wait, which the
    checkpoint makes safe.
    """
    asked = 0

    def end() -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            os._exit(INTERRUPTED)
        click.echo("embedmq: ending after the write under way; Ctrl-C again ends at once", err=True)
        if task is not None:
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end)


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"
