"""What do all tests share? One real Kafka and one real Redis a run, and a prefix of its own for each test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest
from embedmq_local.errors import StackError
from embedmq_local.stack import Stack


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
