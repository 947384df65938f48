"""`embedmq worker --workers N`: several processes, one command."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from embedmq_local.stack import Stack
from embedmq_worker.config import Config, Model, Worker
from embedmq_worker.errors import ConfigInvalid
from embedmq_worker.starts import SERIAL_FROM, UNRUN_FROM
from embedmq_worker.supervise import Child, Restarts, Supervisor, children
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.world import Running, until

NULL = '[models.null]\ncheckpoint = "null:8"'
AT_ONCE = Restarts(first_s=0.01, longest_s=0.02, steady_s=60.0, attempts=3)
STUBBORN = """
import pathlib, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1]).touch()
signal.pause()
"""

Supervised = Callable[..., Running]


@pytest.fixture
def supervised(stack: Stack, tmp_path: Path, prefix: str) -> Iterator[Supervised]:
    """Starts `embedmq worker --workers 2` on free HTTP ports."""

    def run(settings: str = NULL, **env: str) -> Running:
        file = tmp_path / "worker.toml"
        file.write_text(f'prefix = "{prefix}"\n{settings}\n')
        command = [sys.executable, "-m", "embedmq", "worker", "--config", str(file), "--workers", "2"]
        process = stack.start_worker(file, {"EMBEDMQ_WORKER__HTTP": "127.0.0.1:0", **env}, command)
        return Running(process, prefix)

    before = len(stack.workers)
    yield run
    for process in stack.workers[before:]:
        process.stop(kill=True)
        process.close()
        process.log.unlink()  # the next worker of this name would seem to have written it
    del stack.workers[before:]


def pids(running: Running) -> list[int]:
    """Of all children so far, in the order of their starts."""
    return [event["pid"] for event in running.events("worker_started")]


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def test_a_worker_that_is_killed_comes_back_and_all_end_at_sigterm(supervised: Supervised) -> None:
    """Two processes; kill -9 of one brings a third; SIGTERM to the parent ends both in good order, exit code 0."""
    running = supervised(f"{NULL}\n[kafka]\nsession_timeout_ms = 6000\nheartbeat_interval_ms = 500")
    await until(lambda: len(running.events("ready")) == 2, "two workers ready")

    os.kill(pids(running)[0], signal.SIGKILL)
    await until(lambda: len(running.events("ready")) == 3, "a third worker, once Kafka has given up the first")
    assert running.events("worker_died", pid=pids(running)[0], code=-signal.SIGKILL)

    os.kill(running.process.pid, signal.SIGTERM)
    assert running.process.stop(timeout_s=60) == 0
    assert len({event["worker"] for event in running.events("stopped")}) == 2
    assert all(gone(pid) for pid in pids(running))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
async def test_no_worker_outlives_its_supervisor(supervised: Supervised) -> None:
    """kill -9 of the parent: the children drain and end by themselves."""
    running = supervised()
    await until(lambda: len(running.events("ready")) == 2, "two workers ready")

    psutil.Process(running.process.pid).kill()
    await until(lambda: all(gone(pid) for pid in pids(running)), "the end of both workers")


async def test_what_another_start_would_not_change_is_not_tried_again(supervised: Supervised) -> None:
    """A checkpoint that cannot be is exit code 2 of the whole command, after one start each."""
    running = supervised('[models.broken]\ncheckpoint = "null:wide"')

    await until(lambda: not running.process.running, "the end")
    assert running.process.stop() == 2
    assert len(pids(running)) == 2
    assert not running.events("worker_died")


async def test_services_that_are_not_there_are_exit_code_3(supervised: Supervised) -> None:
    """As with one worker, after the same bounded time."""
    running = supervised(f"{NULL}\n[redis]\nstart_timeout_s = 0.2", EMBEDMQ_REDIS="redis://127.0.0.1:1/0")

    await until(lambda: not running.process.running, "the end")
    assert running.process.stop() == 3


async def test_it_gives_up_when_no_worker_ever_lives() -> None:
    """Each is started `attempts` times; then the exit code is 1."""
    dying = Child([sys.executable, "-c", "raise SystemExit(9)"], dict(os.environ), "")
    assert await Supervisor([dying, dying], 5.0, AT_ONCE).run() == 1


async def test_a_worker_that_does_not_end_is_killed(tmp_path: Path) -> None:
    """`grace_s` after the signal; the exit code tells that not all was in order."""
    flag = tmp_path / "deaf"
    deaf = Child([sys.executable, "-c", STUBBORN, str(flag)], dict(os.environ), "")
    running = asyncio.create_task(Supervisor([deaf], 0.1, AT_ONCE).run())
    await until(flag.exists, "a worker that ignores SIGTERM")

    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(running, 60) == 1


def test_each_worker_has_a_port_of_its_own() -> None:
    """They follow each other; port 0 stays what it is; there must be enough of them."""

    def addresses(http: str) -> list[str]:
        config = Config(worker=Worker(http=http), models={"null": Model(checkpoint="null:8")})
        return [child.environ["EMBEDMQ_WORKER__HTTP"] for child in children(config, "worker.toml", 3, {})]

    assert addresses("[::1]:9464") == ["[::1]:9464", "[::1]:9465", "[::1]:9466"]
    assert addresses("127.0.0.1:0") == ["127.0.0.1:0"] * 3
    with pytest.raises(ConfigInvalid, match=r"worker\.http = '127\.0\.0\.1:65534': 3 workers need as many ports"):
        addresses("127.0.0.1:65534")


@given(failures=st.integers(1, 500), spread=st.floats(0, 1))
def test_the_wait_grows_is_bounded_and_is_never_nothing(failures: int, spread: float) -> None:
    """Doubling from `first_s` to `longest_s`, less up to a half."""
    restarts = Restarts()
    delay_s = restarts.delay_s(failures, spread)
    assert restarts.first_s / 2 <= delay_s <= restarts.longest_s
    assert restarts.delay_s(failures + 1, spread) >= delay_s


def test_a_record_that_kills_its_worker_is_found_before_the_command_gives_up() -> None:
    """Even by one worker alone that always dies at once: three deaths where it began to read, three where the batch
    began, three alone, and as many for another such record behind it. All of it, and giving up, within ten minutes."""
    restarts = Restarts()
    assert restarts.attempts >= 2 * SERIAL_FROM + 2 * (UNRUN_FROM - SERIAL_FROM)
    assert sum(restarts.delay_s(failures, 0.0) for failures in range(1, restarts.attempts)) < 600


def test_who_lived_long_enough_starts_afresh() -> None:
    """Only starts that fail in a row count."""
    restarts = Restarts(steady_s=60.0)
    assert restarts.failures(3, lived_s=59.0) == 4
    assert restarts.failures(3, lived_s=60.0) == 1


def test_the_parent_imports_nothing_heavy() -> None:
    """Neither torch nor the clients of Kafka and Redis: it costs next to nothing beside its workers."""
    heavy = "torch", "transformers", "aiokafka", "redis", "prometheus_client"
    code = f"import sys, embedmq_worker.commands; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
