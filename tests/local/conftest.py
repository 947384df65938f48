"""Stacks for the tests of the local stack itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
from embedmq_local.errors import DownloadError, MissingProgram
from embedmq_local.stack import Stack

OrSkip = Callable[[], AbstractContextManager[None]]
Running = Callable[..., AbstractContextManager[subprocess.Popen[str]]]


@pytest.fixture(scope="session")
def or_skip() -> OrSkip:
    """A laptop without network or Redis skips; CI fails."""

    @contextmanager
    def skipping() -> Iterator[None]:
        try:
            yield
        except (DownloadError, MissingProgram) as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))

    return skipping


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory, or_skip: OrSkip) -> Iterator[Stack]:
    """One broker and Redis, with a data folder of their own."""
    with ExitStack() as stack:
        with or_skip():
            started = stack.enter_context(Stack(tmp_path_factory.mktemp("data")))
        yield started


@pytest.fixture(scope="session")
def cluster(or_skip: OrSkip) -> Iterator[Stack]:
    """Three brokers and Redis."""
    with ExitStack() as stack:
        with or_skip():
            started = stack.enter_context(Stack(brokers=3))
        yield started


@pytest.fixture
def program() -> Running:
    """Runs Python in a process of its own; its standard output is a pipe."""

    @contextmanager
    def run(code: str, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
            try:
                yield process
            finally:
                process.kill()

    return run
