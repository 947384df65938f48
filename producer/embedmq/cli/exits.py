"""With which code does the command line end, and what does it say on the way out?"""

from __future__ import annotations

import click

from embedmq.bulk.errors import Away, CheckpointRefused, JobTaken, SinkRefused, SourceRefused, Unserved
from embedmq.cli.commands import install_hint
from embedmq.errors import DeadlineExceeded, EmbedMQError, InvalidRequest, StillPending, Unavailable

DONE, FAILED, USAGE, UNREACHABLE, GAVE_UP, INTERRUPTED = 0, 1, 2, 3, 4, 130


def exit_code(error: BaseException) -> int:
    """The exit code that an error stands for."""
    match error:
        case SystemExit():
            return error.code if isinstance(error.code, int) else FAILED
        case click.Abort() | KeyboardInterrupt():
            return INTERRUPTED
        case click.ClickException():
            return error.exit_code
        case (
            InvalidRequest()
            | ModuleNotFoundError()
            | SourceRefused()
            | SinkRefused()
            | CheckpointRefused()
            | JobTaken()
        ):
            return USAGE
        case Unavailable() | Away() | Unserved():
            return UNREACHABLE
        case StillPending() | DeadlineExceeded():
            return GAVE_UP
        case _:
            return FAILED


def say(error: BaseException) -> None:
    """One line on standard error, with the remedy where there is one."""
    match error:
        case SystemExit() | click.Abort() | KeyboardInterrupt():
            return
        case click.exceptions.NoArgsIsHelpError():  # nothing is wrong, nothing was asked: the help, as it is
            click.echo(error.format_message(), err=True)
            return
        case click.UsageError(ctx=context) if context is not None:
            message = f"{error.format_message().rstrip('.')}: see {context.command_path} --help"
        case click.ClickException():
            message = error.format_message()
        case ModuleNotFoundError():
            message = f"{error.name} is not installed: {install_hint(_importer(error))}"
        case EmbedMQError():
            message = str(error)
        case _:
            message = f"unexpected {type(error).__name__}: {error}: run it again with --debug"
    click.echo(f"embedmq: error: {' '.join(message.split())}", err=True)


def _importer(error: ModuleNotFoundError) -> str:
    """Which of our packages wanted the module: the innermost one on the way to the error."""
    module, trace = "embedmq", error.__traceback__
    while trace is not None:
        name = str(trace.tb_frame.f_globals.get("__name__", ""))
        if name.startswith("embedmq_"):
            module = name
        trace = trace.tb_next
    return module
