"""What happens between `embedmq` and one of its commands?"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

import click
from embedmq_schemas.invocation import Invocation

from embedmq.cli import commands
from embedmq.cli.exits import exit_code, say
from embedmq.cli.options import add_global_options, global_options

QUIET = ("aiokafka", "redis", "embedmq")
"""Loggers whose news a command says in its own words."""


class Root(click.Group):
    """Loads a command when it is asked for, and gives it the global options."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return commands.names()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, commands.summary(name)) for name in self.list_commands(ctx)])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = commands.load(cmd_name)
        taken = ctx.meta.setdefault("embedmq.loaded", {})
        if command is not None and cmd_name not in taken:
            taken[cmd_name] = add_global_options(command)
        return command


def make_root() -> Root:
    """The whole command line."""
    return Root(
        "embedmq",
        params=list(global_options(environment=True)),
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        no_args_is_help=True,
        help="""Embeddings through Kafka and Redis.

        \b
        Example:
          embedmq embed minilm 'a cat' --kafka 127.0.0.1:9092 --redis redis://127.0.0.1:6379
        """,
    )


def main() -> NoReturn:
    """The `embedmq` command."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command; returns the exit code."""
    root = make_root()
    told = Invocation(debug="--debug" in arguments)
    _set_up_logs(debug=told.debug)
    try:
        code = root.main(list(arguments), "embedmq", standalone_mode=False, obj=told)
    except BaseException as error:
        if told.debug and not isinstance(error, (click.ClickException, click.Abort, SystemExit)):
            logging.getLogger("embedmq").exception("what happened")
        say(error)
        return exit_code(error)
    return code if isinstance(code, int) else 0


def _set_up_logs(*, debug: bool) -> None:
    if debug:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr)
        return
    for name in QUIET:
        logging.getLogger(name).addHandler(logging.NullHandler())
