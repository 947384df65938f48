"""What `embedmq dead purge` deletes, and whom it asks before."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.cli.conftest import Run
from tests.cli.graveyard import Graveyard


def test_purge_removes_what_is_older_and_nothing_else(embedmq: Run, three: Graveyard) -> None:
    """A dry run counts; --yes deletes."""
    dry = embedmq("dead", "purge", "--before", "90m", "--dry-run", "--json")
    assert dry.lines == [{"partition": 0, "letters": 2, "first_kept": 2, "deleted": False}]
    assert len(three.records(three.dead)) == 3

    done = embedmq("dead", "purge", "--before", "90m", "--yes")

    assert done.code == 0
    assert done.out.startswith("deleted 2 letters given up before 20")
    assert [record.offset for record in three.records(three.dead)] == [2]
    assert [line["id"] for line in embedmq("dead", "list", "--json").lines] == ["third"]
    assert embedmq("dead", "purge", "--before", "0s", "--yes", "--json").lines[0]["letters"] == 1
    assert embedmq("dead", "list").out.splitlines()[1:] == ["0 letters"]


class Asked:
    """`embedmq dead purge` at a terminal, at its question."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.hand, terminal = os.openpty()
        command = [sys.executable, "-m", "embedmq", "dead", "purge", "--before", "90m"]
        self.process = subprocess.Popen(command, env=environment, stdin=terminal, stdout=terminal, stderr=terminal)
        os.close(terminal)
        self.said = b""
        while b"[y/N]" not in self.said:
            self.said += os.read(self.hand, 4096)

    def answer(self, line: bytes) -> int:
        os.write(self.hand, line)
        return self.process.wait(60)

    def interrupt(self) -> int:
        """As a person would: again, if the first comes in the moment between Python's question and its waiting."""
        for _ in range(60):
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.wait(1)
        raise AssertionError("not interrupted")


@pytest.fixture
def asked(environment: dict[str, str], three: Graveyard) -> Iterator[Asked]:
    asked = Asked(environment)
    yield asked
    asked.process.kill()
    asked.process.wait(60)
    os.close(asked.hand)


@pytest.mark.parametrize(("line", "code", "left"), [(b"y\n", 0, 1), (b"n\n", 1, 3), (b"\n", 1, 3)])
def test_purge_asks_at_a_terminal(asked: Asked, three: Graveyard, line: bytes, code: int, left: int) -> None:
    """And takes no answer for no."""
    assert b"delete 2 letters" in asked.said
    assert asked.answer(line) == code
    assert len(three.records(three.dead)) == left


def test_an_interruption_ends_in_130(asked: Asked, three: Graveyard) -> None:
    """And deletes nothing."""
    assert asked.interrupt() == 130
    assert len(three.records(three.dead)) == 3
