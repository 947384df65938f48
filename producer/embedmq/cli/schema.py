"""What does `embedmq schema` do?"""

from __future__ import annotations

import click
import msgspec
from embedmq_schemas.names import Names

from embedmq.cli.options import invocation_of


@click.group()
def schema() -> None:
    r"""Print the wire format as a document.

    \b
    Example:
      embedmq schema json > embedmq.schema.json
    """


@schema.command("json")
def json_() -> None:
    r"""Print the JSON Schema of requests and results.

    \b
    Example:
      embedmq schema json
    """
    from embedmq_schemas.documents import json_schema

    _write(json_schema())


@schema.command("asyncapi")
@click.pass_context
def asyncapi_(context: click.Context) -> None:
    r"""Print the AsyncAPI 3 document: topics, messages, headers, replies.

    \b
    Example:
      embedmq schema asyncapi --prefix embedmq
    """
    from embedmq_schemas.documents import asyncapi

    _write(asyncapi(Names(invocation_of(context).prefix or "embedmq")))


def _write(document: dict[str, object]) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))
