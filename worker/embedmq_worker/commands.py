"""What do `embedmq worker` and `embedmq config` do?"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import click
import msgspec
from embedmq_schemas.invocation import Invocation

from embedmq_worker.config import Config
from embedmq_worker.configuration import load, show
from embedmq_worker.errors import WorkerError
from embedmq_worker.flags import environment
from embedmq_worker.logs import configure
from embedmq_worker.offload import leave
from embedmq_worker.supervise import MARGIN_S, Restarts, Supervisor, children, end_with


@click.command()
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes, restarted when they die; each has its HTTP port, from `worker.http` on.",
)
@click.option("--parent", type=int, hidden=True)
@click.option("--sharers", type=click.IntRange(min=1), default=1, hidden=True)
@click.pass_context
def worker(context: click.Context, workers: int, parent: int | None, sharers: int) -> None:
    r"""Run a worker on existing Kafka and Redis until SIGTERM or Ctrl-C.

    \b
    Example:
      embedmq worker --config worker.toml
    """
    with _one_line():
        invocation = _invocation(context)
        if invocation.config is None:
            raise click.UsageError("a worker needs --config FILE, which lists its models (or EMBEDMQ_CONFIG)")
        environ = environment(invocation, os.environ)
        config = load(invocation.config, environ)
        if workers > 1:
            context.exit(_supervise(config, invocation.config, workers, environ))
        if parent is not None:
            end_with(parent)
        # what runs a worker takes a while to import: no other command should wait for it
        from embedmq_worker.run import serve, worker_name

        worker_id = worker_name()
        configure(config.worker.log_level, worker_id)
        with _fast_loop() as runner:
            runner.run(serve(config, worker_id, sharers, partial(load, invocation.config, environ)))
        leave()


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
        loaded = load(invocation.config, environment(invocation, os.environ))
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
        invocation = _invocation(context)
        click.echo(json.dumps(show(load(invocation.config, environment(invocation, os.environ))), indent=2))


@config.command("schema")
def schema() -> None:
    r"""Print the JSON Schema of the configuration file.

    \b
    Example:
      embedmq config schema > embedmq-config.schema.json
    """
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


def _supervise(config: Config, file: Path, workers: int, environ: Mapping[str, str]) -> int:
    configure(config.worker.log_level, f"supervisor-{os.getpid()}")
    started = children(config, str(file.resolve()), workers, environ)
    return asyncio.run(Supervisor(started, config.worker.shutdown_grace_s + MARGIN_S, Restarts()).run())


def _fast_loop() -> asyncio.Runner:
    try:
        import uvloop
    except ImportError:  # no uvloop on Windows
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)
