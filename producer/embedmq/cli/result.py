"""What does `embedmq result` do?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from embedmq.cli.connecting import with_client
from embedmq.cli.exits import FAILED
from embedmq.cli.options import invocation_of
from embedmq.cli.vectors import write_embedding, write_scores

if TYPE_CHECKING:
    from embedmq.client import Client


@click.command()
@click.argument("id")
@click.option("--wait-s", type=click.FloatRange(min=0), default=0.0, show_default=True, help="Wait for it so long.")
@click.pass_context
def result(context: click.Context, id: str, wait_s: float) -> None:
    r"""Print the result of a submitted request; exit code 4 while it is not finished.

    \b
    Example:
      embedmq result 3f0b5c1e-58a9-4d0f-9f5b-0c6a3f1f7d7e --wait-s 30
    """
    invocation = invocation_of(context)
    whole = True

    async def work(client: Client) -> None:
        nonlocal whole
        from embedmq.scores import Scores

        found = await client.any_result(id, wait_s=wait_s)
        if isinstance(found, Scores):
            whole = write_scores(found, None, json=invocation.json)
        else:
            written = [write_embedding(i, item, json=invocation.json) for i, item in enumerate(found)]
            whole = all(written)

    with_client(invocation, work)
    if not whole:
        context.exit(FAILED)
