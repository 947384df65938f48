"""What does `embedmq submit` do?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

import click
from embedmq_schemas.requests import Lane

from embedmq.cli.asking import Asked, asking_options, lane_option, options_of
from embedmq.cli.connecting import with_client
from embedmq.cli.options import invocation_of
from embedmq.cli.output import json_line
from embedmq.cli.texts import all_texts

if TYPE_CHECKING:
    from embedmq.client import Client


@click.command()
@click.argument("model")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@asking_options
@lane_option("interactive")
@click.option("--keep-s", type=click.IntRange(min=1), default=3600, show_default=True, help="Keep the result so long.")
@click.option("--timeout-s", type=click.FloatRange(min=0, min_open=True), help="Compute it in this time or not at all.")
@click.pass_context
def submit(
    context: click.Context,
    model: str,
    texts: Sequence[str],
    lane: Lane,
    keep_s: int,
    timeout_s: float | None,
    **asked: Unpack[Asked],
) -> None:
    r"""Leave TEXTs, or the lines of standard input, as one request; print its id once Kafka has it for good.

    \b
    Example:
      id=$(embedmq submit minilm 'a cat'); embedmq result $id --wait-s 30
    """
    invocation = invocation_of(context)
    items = all_texts(texts)

    async def work(client: Client) -> None:
        ticket = await client.submit(model, items, keep_s=keep_s, lane=lane, timeout_s=timeout_s, **options_of(asked))
        if invocation.json:
            json_line({"id": ticket.id})
        else:
            click.echo(ticket.id)

    with_client(invocation, work)
