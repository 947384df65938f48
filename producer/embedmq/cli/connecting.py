"""How does a command reach Kafka and Redis?"""

from __future__ import annotations

import asyncio
import os
import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from embedmq_schemas.environment import overrides
from embedmq_schemas.invocation import Invocation

if TYPE_CHECKING:
    from embedmq.client import Client
    from embedmq.settings import Setup

LOCAL_REDIS = "redis://127.0.0.1:6379/0"


def setup_of(invocation: Invocation) -> Setup:
    """Settings from flags, else the environment, else the configuration file, else this machine; UsageError names a
    wrong one.
    """
    from embedmq.settings import Setup

    found: dict[tuple[str, ...], object] = {("redis", "url"): LOCAL_REDIS}
    if invocation.config is not None:
        found |= _read_file(invocation.config)
    found |= overrides(os.environ)
    flags = {
        ("kafka", "bootstrap"): invocation.kafka,
        ("redis", "url"): invocation.redis,
        ("prefix",): invocation.prefix,
    }
    found |= {path: value for path, value in flags.items() if value is not None}
    try:
        setup = Setup.from_paths(found)
        setup.kafka.options()  # reads the certificates
    except (ValueError, OSError) as error:
        raise click.UsageError(str(error)) from None
    return setup


def with_client(invocation: Invocation, work: Callable[[Client], Awaitable[None]]) -> None:
    """Start a client and do something with it."""
    setup = setup_of(invocation)

    async def run() -> None:
        from embedmq.client import Client

        async with Client.of(setup) as client:
            await work(client)

    asyncio.run(run())


def _read_file(file: Path) -> dict[tuple[str, ...], object]:
    """The addresses in a worker's configuration; all else in it is the worker's to check."""
    try:
        tables = tomllib.loads(file.read_text())
    except OSError as error:
        raise click.UsageError(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        raise click.UsageError(f"{file} is no TOML: {error}") from None
    found: dict[tuple[str, ...], object] = {(key,): value for key, value in tables.items() if key == "prefix"}
    for section in ("kafka", "redis"):
        table = tables.get(section, {})
        if not isinstance(table, dict):
            raise click.UsageError(f"{file}: {section} = {table!r}: must be a table, [{section}]")
        found |= {(section, key): value for key, value in table.items()}
    return found
