"""What does each command say when asked for help?"""

from __future__ import annotations

from collections.abc import Iterator

import click
from embedmq.cli.root import make_root

from docs.pages.markdown import NOTE

WIDTH = 100
INTRODUCTION = """\
# Command line

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | a request or an item failed |
| 2 | usage or configuration |
| 3 | Kafka or Redis not reachable in time, or not letting us in |
| 4 | gave up waiting |
| 130 | interrupted |
"""


def page() -> str:
    """docs/cli.md."""
    helps = "".join(f"\n## {path}\n\n```text\n{text}\n```\n" for path, text in _helps(make_root(), "embedmq", None))
    return NOTE + INTRODUCTION + helps


def _helps(command: click.Command, name: str, above: click.Context | None) -> Iterator[tuple[str, str]]:
    """A command's path and help, then those of the commands below it."""
    context = command.context_class(command, above, name, **{**command.context_settings, "terminal_width": WIDTH})
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            child = command.get_command(context, below)
            if child is not None and not child.hidden:
                yield from _helps(child, below, context)
