"""Which options does every command take, before and after its name?"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import click
import msgspec
from embedmq_schemas.invocation import Invocation

PREFIX_HELP = "First word of topics, groups and Redis keys."


def invocation_of(context: click.Context) -> Invocation:
    """What the command line was told so far."""
    told = context.find_root().obj
    return told if isinstance(told, Invocation) else Invocation()


def global_options(*, environment: bool) -> list[click.Option]:
    """The options, each of which notes its value; only the root's look into the environment, so that a flag wins."""

    def option(flag: str, help: str, kind: click.Path | None = None, metavar: str | None = None) -> click.Option:
        name = flag.removeprefix("--")
        return click.Option(
            [flag],
            type=kind,
            metavar=metavar,
            help=help,
            expose_value=False,
            callback=_note,
            envvar=f"EMBEDMQ_{name.upper()}" if environment else None,
            show_envvar=environment,
        )

    def switch(flag: str, help: str) -> click.Option:
        return click.Option([flag], is_flag=True, default=None, help=help, expose_value=False, callback=_note)

    return [
        option("--kafka", "Kafka's addresses.", metavar="HOST:PORT[,…]"),
        option("--redis", "Redis's address.", metavar="URL"),
        option("--prefix", PREFIX_HELP, metavar="WORD"),
        option(
            "--config", "Worker configuration, for its addresses.", click.Path(dir_okay=False, path_type=Path), "FILE"
        ),
        switch("--json", "Machine-readable output, one JSON value a line."),
        switch("--debug", "Show tracebacks and the log of the Kafka and Redis clients."),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            help="Print the version.",
            callback=_print_version,
        ),
    ]


def add_global_options(command: click.Command) -> click.Command:
    """Let a command, and those below it, take the global options too, except where it has its own of the name."""
    if command.help is not None:
        command.help = command.help.replace(r"\b", "\b")  # click's mark of a block, where the docstring is raw
    taken = {flag for parameter in command.params for flag in parameter.opts}
    command.params += [option for option in global_options(environment=False) if not taken & set(option.opts)]
    if isinstance(command, click.Group):
        for below in command.commands.values():
            add_global_options(below)
    return command


def _note(context: click.Context, option: click.Parameter, value: object) -> None:
    if value is not None and option.name is not None:
        context.find_root().obj = msgspec.structs.replace(invocation_of(context), **{option.name: value})


def _print_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"embedmq {version('embedmq')}")
        context.exit()
