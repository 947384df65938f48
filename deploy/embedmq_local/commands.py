"""What does the local stack add to the `embedmq` command?"""

from __future__ import annotations

import json
import os
import signal
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click
from embedmq_schemas.invocation import Invocation

from embedmq_local.errors import ConfigurationError, MissingProgram, StackError
from embedmq_local.progress import TerminalProgress
from embedmq_local.stack import CLUSTER_SIZES, Endpoints, Stack
from embedmq_local.worker import DEFAULT_CONFIG

DEFAULT_PREFIX = "embedmq"
INTERRUPTED = 130  # exit code after Ctrl-C


class NotConfigured(click.ClickException):
    """An option, a file or the machine has to be changed first."""

    exit_code = 2


class NotStarted(click.ClickException):
    """A download failed, or a process did not become ready."""

    exit_code = 3


class Ended(click.ClickException):
    """A process of a stack that was up has ended."""

    exit_code = 1


@click.command()
@click.option("--brokers", type=click.Choice([str(n) for n in CLUSTER_SIZES]), default="1", help="Kafka nodes.")
@click.option("--workers", type=click.IntRange(min=0), default=1, show_default=True, help="Worker processes.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep Kafka's and Redis's data in this folder; without it, data goes when the stack ends.",
)
@click.pass_context
def up(context: click.Context, brokers: str, workers: int, data: Path | None) -> None:
    """Run Kafka, Redis and workers on free loopback ports until Ctrl-C or SIGTERM.

    Without --config the workers serve the model `minilm`. SIGHUP has them read their file again, unless `up` runs
    in a terminal, whose end it is there. When one process ends, all end.
    """
    options = _options(context)
    failure: type[click.ClickException] = NotStarted
    try:
        file = read_config(options.config)
        models = list(file.get("models", {})) if workers else []
        prefix = options.prefix or str(file.get("prefix", DEFAULT_PREFIX))
        with _ended_by_signals(), Stack(data, int(brokers), TerminalProgress()) as stack:
            _start_workers(stack, workers, options)
            describe = as_json if options.json else as_text
            with passed_on(stack):
                click.echo(describe(stack.endpoints, models, prefix))
                failure = Ended
                stack.wait()
    except (ConfigurationError, MissingProgram) as error:
        raise NotConfigured(str(error)) from error
    except StackError as error:
        raise failure(str(error)) from error
    except KeyboardInterrupt:
        context.exit(INTERRUPTED)


@click.command()
@click.option("--texts", type=click.IntRange(min=1), default=2_000, show_default=True, help="How many docstrings.")
@click.pass_context
def demo(context: click.Context, texts: int) -> None:
    r"""Embed Python's own docstrings through real Kafka, Redis and a worker; search them; leave nothing running.

    \b
    Example:
      embedmq demo
    """
    # the client takes a while to import: `up` should not wait for it
    from embedmq.errors import EmbedMQError

    from embedmq_local.demo import describe, run

    options = _options(context)
    try:
        with _ended_by_signals():
            report = run(lambda line: click.echo(line, err=options.json), texts, quiet=options.json)
    except (ConfigurationError, MissingProgram) as error:
        raise NotConfigured(str(error)) from error
    except StackError as error:
        raise NotStarted(str(error)) from error
    except EmbedMQError as error:
        raise Ended(str(error)) from error
    except KeyboardInterrupt:
        context.exit(INTERRUPTED)
    click.echo(json.dumps(report.as_dict()) if options.json else describe(report))


def _options(context: click.Context) -> Invocation:
    invocation = context.find_root().obj
    return invocation if isinstance(invocation, Invocation) else Invocation()


def _start_workers(stack: Stack, workers: int, options: Invocation) -> None:
    """Start all, then wait for all."""
    environment = {"EMBEDMQ_PREFIX": options.prefix} if options.prefix else {}
    for worker in [stack.start_worker(options.config, environment) for _ in range(workers)]:
        worker.wait_ready()


def read_config(config: Path | None) -> dict[str, Any]:
    """A worker configuration, which the worker itself will check in full."""
    try:
        return tomllib.loads(DEFAULT_CONFIG if config is None else config.read_text())
    except OSError as error:
        raise ConfigurationError(f"cannot read {config}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"{config} is no TOML: {error}") from error


def as_json(endpoints: Endpoints, models: list[str], prefix: str) -> str:
    return json.dumps(
        {
            "kafka": endpoints.kafka,
            "redis": endpoints.redis,
            "prefix": prefix,
            "metrics": endpoints.metrics,
            "models": models,
            "pids": {
                "kafka": endpoints.kafka_pids,
                "redis": endpoints.redis_pid,
                "workers": endpoints.worker_pids,
            },
        }
    )


def as_text(endpoints: Endpoints, models: list[str], prefix: str) -> str:
    example = f"embedmq embed {models[0]} 'a text'" if models else "embedmq doctor"
    own = "" if prefix == DEFAULT_PREFIX else f" EMBEDMQ_PREFIX={prefix}"
    metrics = "".join(f"\n  http://{address}/metrics" for address in endpoints.metrics)
    return (
        f"Ready; Ctrl-C ends it all. In another terminal:\n\n"
        f"  export EMBEDMQ_KAFKA={endpoints.kafka} EMBEDMQ_REDIS={endpoints.redis}{own}\n  {example}\n{metrics}"
    )


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM, and the end of the terminal, are ordinary ways to end: they unwind, and the exit code is 0.

    SIGINT unwinds even where a script started this in the background, which makes shells ignore it.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(0)

    handlers = {signal.SIGTERM: end, signal.SIGHUP: end, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def passed_on(stack: Stack) -> Iterator[None]:
    """SIGHUP goes on to the workers, which read their file again; in a terminal it says that the terminal has gone."""

    def pass_on(_number: int, _frame: FrameType | None) -> None:
        for worker in stack.workers:
            if worker.process is not None:
                worker.process.signal(signal.SIGHUP)

    before = signal.getsignal(signal.SIGHUP)
    if not os.isatty(0):
        signal.signal(signal.SIGHUP, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
