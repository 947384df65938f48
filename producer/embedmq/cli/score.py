"""What does `embedmq score` do?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from embedmq_schemas.requests import Lane

from embedmq.cli.asking import lane_option
from embedmq.cli.connecting import with_client
from embedmq.cli.exits import FAILED
from embedmq.cli.options import invocation_of
from embedmq.cli.texts import all_texts
from embedmq.cli.vectors import write_scores

if TYPE_CHECKING:
    from embedmq.client import Client


@click.command()
@click.argument("model")
@click.argument("query")
@click.argument("documents", nargs=-1, metavar="[DOC]...")
@click.option("--top-n", type=click.IntRange(min=1), help="Rank only the best.")
@click.option("--truncate/--no-truncate", default=True, show_default=True, help="Cut long texts, or fail them.")
@lane_option("interactive")
@click.option("--timeout-s", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True)
@click.option("--tenant", default="", help="Whose request it is.")
@click.option("--revision", help="Only by this revision of the model.")
@click.pass_context
def score(
    context: click.Context,
    model: str,
    query: str,
    documents: Sequence[str],
    top_n: int | None,
    truncate: bool,
    lane: Lane,
    timeout_s: float,
    tenant: str,
    revision: str | None,
) -> None:
    r"""Rank DOCs, or the lines of standard input, by how well they answer QUERY.

    \b
    Example:
      embedmq score ranker pets 'a cat' 'a car'
    """
    invocation = invocation_of(context)
    texts = all_texts(documents)
    whole = True

    async def work(client: Client) -> None:
        nonlocal whole
        scores = await client.score(
            model,
            query,
            texts,
            top_n=top_n,
            truncate=truncate,
            lane=lane,
            timeout_s=timeout_s,
            tenant=tenant,
            revision=revision,
            on_error="return",
        )
        whole = write_scores(scores, texts, json=invocation.json)

    with_client(invocation, work)
    if not whole:
        context.exit(FAILED)
