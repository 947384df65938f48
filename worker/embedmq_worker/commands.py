"""What do `embedmq worker` and `embedmq config` do?"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click
from embedmq_schemas.invocation import Invocation

from embedmq_worker.configuration import load, show
from embedmq_worker.errors import WorkerError


@click.command()
@click.pass_context
def worker(context: click.Context) -> None:
    r"""Run a worker on existing Kafka and Redis until SIGTERM or Ctrl-C.

    \b
    Example:
      embedmq worker --config worker.toml
    """
    with _one_line():
        invocation = _invocation(context)
        if invocation.config is None:
            raise click.UsageError("a worker needs --config FILE, which lists its models (or EMBEDMQ_CONFIG)")
        config = load(invocation.config, os.environ)
        # what runs a worker takes a while to import: no other command should wait for it
        from embedmq_worker.logs import configure
        from embedmq_worker.run import serve, worker_name

        worker_id = worker_name()
        configure(config.worker.log_level, worker_id)
        with _fast_loop() as runner:
            runner.run(serve(config, worker_id))


@click.group()
def config() -> None:
    r"""Check, show and explain the worker's configuration.

    \b
    Example:
      embedmq config check --config worker.toml
    """


@config.command("check")
@click.pass_context
def check(context: click.Context) -> None:
    r"""Read the file and the environment; say what is wrong, if anything (exit code 2).

    \b
    Example:
      embedmq config check --config worker.toml
    """
    with _one_line():
        invocation = _invocation(context)
        loaded = load(invocation.config, os.environ)
        if invocation.json:
            click.echo(json.dumps({"ok": True, "models": sorted(loaded.models)}))
        else:
            click.echo(f"good: {len(loaded.models)} model(s): {', '.join(sorted(loaded.models))}")


@config.command("show")
@click.pass_context
def show_command(context: click.Context) -> None:
    r"""Print the configuration with all defaults, as JSON; secrets are replaced.

    \b
    Example:
      embedmq config show --config worker.toml
    """
    with _one_line():
        click.echo(json.dumps(show(load(_invocation(context).config, os.environ)), indent=2))


@config.command("schema")
def schema() -> None:
    r"""Print the JSON Schema of the configuration file.

    \b
    Example:
      embedmq config schema > embedmq-config.schema.json
    """
    import msgspec

    from embedmq_worker.config import Config

    click.echo(json.dumps(msgspec.json.schema(Config), indent=2))


class _Misconfigured(click.ClickException):
    exit_code = 2


class _Unreachable(click.ClickException):
    exit_code = 3


_FAILURES: Final = {1: click.ClickException, 2: _Misconfigured, 3: _Unreachable}


def _invocation(context: click.Context) -> Invocation:
    found = context.find_root().obj
    return found if isinstance(found, Invocation) else Invocation()


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn this package's errors into click's, which print one line and carry the exit code."""
    try:
        yield
    except WorkerError as error:
        raise _FAILURES[error.exit_code](str(error)) from error


def _fast_loop() -> asyncio.Runner:
    try:
        import uvloop
    except ImportError:  # no uvloop on Windows
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)
