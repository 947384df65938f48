"""Workers run beside the stack's Kafka and Redis, and end in good order."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from embedmq_local.errors import ProcessError
from embedmq_local.stack import Stack

READY = """
import http.server, os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/ready" else 404)
        self.end_headers()
print(os.environ["EMBEDMQ_KAFKA"], os.environ["EMBEDMQ_REDIS"], os.environ["EXTRA"], flush=True)
host, _, port = os.environ["EMBEDMQ_WORKER__HTTP"].partition(":")
http.server.HTTPServer((host, int(port)), Answer).serve_forever()
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); signal.pause()"
BROKEN = "print('first', flush=True); raise SystemExit('no such model: minilm')"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.fixture
def stack(kept: Stack) -> Iterator[Stack]:
    yield kept
    for worker in kept.workers:
        worker.stop(kill=True)
        worker.close()
    kept.workers.clear()


def test_a_worker_knows_its_addresses_and_ends_with_its_own_code(stack: Stack) -> None:
    """Kafka, Redis and its HTTP address come by environment; `pid` is the worker's own."""
    worker = stack.start_worker(command=python(READY), env={"EXTRA": "mine"})
    worker.wait_ready(60)
    assert worker.log.read_text().split()[:3] == [stack.kafka, stack.redis, "mine"]
    assert psutil.Process(worker.pid).cmdline()[-1] == READY
    assert stack.endpoints.metrics == (worker.http,)
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.process is not None
    assert worker.process.wait(60) is not None  # a second signal, while the interpreter ends, would change the code
    assert worker.stop() == 7


def test_a_worker_that_dies_first_says_why(stack: Stack) -> None:
    """The error has the last lines of its log."""
    worker = stack.start_worker(command=python(BROKEN))
    with pytest.raises(
        ProcessError, match=r"worker-1 ended with exit code 1 .*no such model: minilm.*worker-1\.log"
    ) as error:
        worker.wait_ready(60)
    assert error.value.__notes__ == ["first\nno such model: minilm"]
    assert error.value.log == worker.log


def test_a_worker_that_is_not_ready_in_time_says_so(stack: Stack) -> None:
    """A bounded wait, and the process is still there to be looked at."""
    worker = stack.start_worker(command=["sleep", "60"])
    with pytest.raises(ProcessError, match="was not ready within 0 s"):
        worker.wait_ready(0.1)
    assert worker.running


def test_a_stubborn_worker_is_killed(stack: Stack) -> None:
    """After `timeout_s`, with its whole process group."""
    worker = stack.start_worker(command=python(STUBBORN))
    assert worker.process is not None
    worker.process.wait_until(lambda: "here" in worker.log.read_text(), 60)
    assert worker.stop(timeout_s=0.2) == -signal.SIGKILL


def test_a_suspended_worker_can_be_stopped(stack: Stack) -> None:
    """SIGSTOP does not hold up the end."""
    worker = stack.start_worker(command=python(READY), env={"EXTRA": ""})
    worker.wait_ready(60)
    os.kill(worker.pid, signal.SIGSTOP)
    assert worker.stop(timeout_s=60) == 7


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_a_worker_does_not_outlive_its_guard(stack: Stack) -> None:
    """Even a kill -9 of the guard leaves nothing."""
    worker = stack.start_worker(command=["sleep", "600"])
    process = psutil.Process(worker.pid)
    guard = process.parent()
    assert guard is not None
    guard.kill()
    process.wait(60)


def test_a_program_that_does_not_exist_is_named(stack: Stack, tmp_path: Path) -> None:
    """As a shell says it: exit code 127 and the name."""
    missing = tmp_path / "nothing"
    worker = stack.start_worker(command=[str(missing)])
    with pytest.raises(ProcessError, match=f"exit code 127 .*{missing}: No such file"):
        worker.wait_ready(60)
