"""What does `embedmq cancel` do?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from embedmq.cli.connecting import with_client
from embedmq.cli.exits import FAILED
from embedmq.cli.options import invocation_of
from embedmq.cli.output import json_line

if TYPE_CHECKING:
    from embedmq.client import Client


@click.command()
@click.argument("id")
@click.pass_context
def cancel(context: click.Context, id: str) -> None:
    r"""Call off a submitted request, and print what became of it: cancelled; or completed or unknown, with exit code 1.

    \b
    Example:
      embedmq cancel 3f0b5c1e-58a9-4d0f-9f5b-0c6a3f1f7d7e
    """
    invocation = invocation_of(context)
    outcome = ""

    async def work(client: Client) -> None:
        nonlocal outcome
        outcome = await client.cancel(id)
        if invocation.json:
            json_line({"id": id, "outcome": outcome})
        else:
            click.echo(outcome)

    with_client(invocation, work)
    if outcome != "cancelled":
        context.exit(FAILED)
