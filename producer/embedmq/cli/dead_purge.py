"""What does `embedmq dead purge` do?"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from embedmq.cli.connecting import setup_of
from embedmq.cli.dead_options import when
from embedmq.cli.dead_rows import moment, now
from embedmq.cli.exits import FAILED
from embedmq.cli.options import invocation_of
from embedmq.cli.output import json_line

if TYPE_CHECKING:
    from embedmq.dead_topic import Span
    from embedmq.settings import Setup


@click.command()
@click.option("--before", type=when, metavar="T", required=True, help="Older than this: an age (7d) or an ISO time.")
@click.option("--dry-run", is_flag=True, help="Count them, and delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def purge(context: click.Context, before: int, dry_run: bool, yes: bool) -> None:
    r"""Delete dead letters for good, of whatever model and code: on each partition all before the first newer one.

    \b
    Example:
      embedmq dead purge --before 7d --dry-run
      embedmq dead purge --before 2026-01-31T12:00 --yes
    """
    invocation = invocation_of(context)
    if before > now():
        raise click.UsageError("--before is in the future: what is not a dead letter yet could not be looked at before")
    if not (dry_run or yes or sys.stdin.isatty()):
        raise click.UsageError("there is nobody to ask: pass --yes to delete, or --dry-run to count")
    setup = setup_of(invocation)
    spans = asyncio.run(_older(setup, before))
    older = f"{sum(span.length for span in spans.values())} letters given up before {moment(before, now())}"
    if spans and not dry_run:
        if not yes and not click.confirm(f"delete {older} for good?", err=True):
            click.echo("nothing was deleted", err=True)
            context.exit(FAILED)
        asyncio.run(_remove(setup, spans))
    if not invocation.json:
        click.echo(f"{'would delete' if dry_run else 'deleted'} {older}")
        return
    for number, span in spans.items():
        json_line({"partition": number, "letters": span.length, "first_kept": span.end, "deleted": not dry_run})


async def _older(setup: Setup, before_unix_ms: int) -> dict[int, Span]:
    from embedmq.dead_topic import DeadTopic

    async with DeadTopic.open(setup) as topic:
        return {number: span for number, span in (await topic.older(before_unix_ms)).items() if span.length}


async def _remove(setup: Setup, spans: Mapping[int, Span]) -> None:
    from embedmq.dead_topic import DeadTopic

    async with DeadTopic.open(setup) as topic:
        await topic.remove(spans)
