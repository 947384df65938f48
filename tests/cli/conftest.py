"""What do the tests of the command line share? A stand-in worker beside them, and a way to run commands."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple

import pytest
from embedmq.cli.root import run
from embedmq_local.stack import Stack

from tests.cli.graveyard import Graveyard
from tests.producer.standin import StandIn


class Done(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Standard output as JSON, line by line."""
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Done]

LIFE_S, JOIN_TIMEOUT_S = 110.0, 30.0
"""How long a stand-in may live, and how long it may take to end."""


@pytest.fixture
def worker(stack: Stack, prefix: str) -> Iterator[StandIn]:
    """A stand-in that serves `minilm` in a thread of its own, which is gone when the test is."""
    started: Future[tuple[StandIn, asyncio.Event]] = Future()

    async def serve() -> None:
        async with StandIn(stack.kafka, stack.redis, prefix) as standin:
            await standin.announce(dimensions=4, outputs=["dense"], revision="r1")
            ended = asyncio.Event()
            started.set_result((standin, ended))
            await ended.wait()

    def run() -> None:
        try:
            asyncio.run(asyncio.wait_for(serve(), LIFE_S))
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run)
    thread.start()
    standin, ended = started.result(LIFE_S)
    try:
        yield standin
    finally:
        standin.loop.call_soon_threadsafe(ended.set)
        thread.join(JOIN_TIMEOUT_S)
        assert not thread.is_alive(), "the stand-in did not end"


@pytest.fixture
def environment(stack: Stack, prefix: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment that leads to the stack; set here, and for child processes."""
    own = {"EMBEDMQ_KAFKA": stack.kafka, "EMBEDMQ_REDIS": stack.redis, "EMBEDMQ_PREFIX": prefix}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    return {**os.environ, **own}


@pytest.fixture
def embedmq(environment: dict[str, str], capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""

    def command(*arguments: str) -> Done:
        capsys.readouterr()
        code = run(arguments)
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    return command


@pytest.fixture
def piped(environment: dict[str, str]) -> Run:
    """Run a command as a process, with standard input."""

    def command(*arguments: str, stdin: bytes = b"") -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "embedmq", *arguments],
            input=stdin,
            capture_output=True,
            env=environment,
            timeout=60,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    return command


@pytest.fixture
def yard(stack: Stack, prefix: str) -> Graveyard:
    """A topic of dead letters, still empty."""
    yard = Graveyard(stack, prefix)
    yard.create(yard.dead)
    return yard


@pytest.fixture
def three(yard: Graveyard) -> Graveyard:
    """Three letters of two models and two codes, three, two and one hours old."""
    yard.bury("first", age_h=3)
    yard.bury("second", "unknown_model", model="bge", age_h=2)
    yard.bury("third", age_h=1)
    return yard
