"""What do all tests share? One real Kafka and one real Redis a run, and a prefix of its own for each test."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator

import pytest
from embedmq_local.errors import StackError
from embedmq_local.stack import Stack
from hypothesis import HealthCheck, settings


def pytest_configure() -> None:
    """One core a process, for torch here and in every worker: there are other processes of tests beside this one, and
    threads that spin while they wait for one that has no core take longer than no threads at all. Ctrl-C reaches what
    tests start, also when a shell runs them in the background, where it is ignored and this is inherited. No example
    of hypothesis is wrong for taking long: where others have the cores, any may.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    settings.register_profile("embedmq", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("embedmq")


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Real Kafka and real Redis; where they cannot be had, tests skip on a laptop and fail in CI."""
    running = Stack()
    try:
        running.__enter__()
    except StackError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no local stack: {error}")
    try:
        yield running
    finally:
        running.__exit__(None, None, None)


@pytest.fixture
def prefix() -> str:
    """A prefix of topics, groups and keys that no other test uses."""
    return f"t{uuid.uuid4().hex[:10]}"
