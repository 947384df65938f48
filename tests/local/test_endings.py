"""Nothing survives the process that started a stack, and every ending is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest
from embedmq_local.commands import as_json, as_text, passed_on
from embedmq_local.errors import ProcessError
from embedmq_local.kafka import live_brokers
from embedmq_local.stack import Endpoints, Stack

Running = Callable[..., AbstractContextManager[subprocess.Popen[str]]]
GONE_S = 60.0  # guards against waiting for ever for the processes of a dead parent
UP = "from embedmq_local.commands import up; from embedmq_schemas.invocation import Invocation; import sys; "
UP_JSON = UP + "up(sys.argv[1:], obj=Invocation(json=True))"
UP_ALONE = UP + "up(sys.argv[1:])"
WITH_WORKER = """
import sys, time
from embedmq_local.stack import Stack
with Stack() as stack:
    stack.start_worker(command=["sleep", "600"])
    print(stack._data.folder, flush=True)
    time.sleep(600)
"""


def started(process: subprocess.Popen[str]) -> tuple[str, list[psutil.Process]]:
    """The first line that it prints, when it is up, and its processes."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        assert process.stderr is not None
        pytest.fail(process.stderr.read())
    return line.strip(), psutil.Process(process.pid).children(recursive=True)


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=GONE_S)
    assert not alive


def test_kill_9_of_the_parent_leaves_nothing(program: Running) -> None:
    """No process and no temporary folder: Kafka, Redis, a worker and their guards all go."""
    with program(WITH_WORKER) as process:
        folder, processes = started(process)
        assert len(processes) == 6
        process.send_signal(signal.SIGKILL)
        assert_gone(processes)
        assert not Path(folder).exists()


def test_sigterm_is_an_ordinary_end_of_up(program: Running) -> None:
    """With --json, one line when all is ready; SIGTERM ends everything, silently, with exit code 0."""
    with program(UP_JSON, "--workers", "0") as process:
        line, processes = started(process)
        answer = json.loads(line)
        assert set(answer) == {"kafka", "redis", "prefix", "metrics", "models", "pids"}
        assert live_brokers(int(answer["kafka"].split(":")[1])) == {1}
        pids = answer["pids"]
        assert {*pids["kafka"], pids["redis"]} < {child.pid for child in processes}
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=GONE_S)
        assert (process.returncode, output, errors.strip()) == (0, "", "")
        assert_gone(processes)


def test_what_up_prints_has_the_prefix_of_its_workers() -> None:
    """Without it, what is copied would ask nobody; the usual one is left out."""
    endpoints = Endpoints("k:1", "redis://r:1/0", (), (1,), 2, ())
    assert " EMBEDMQ_REDIS=redis://r:1/0 EMBEDMQ_PREFIX=mine\n" in as_text(endpoints, ["m"], "mine")
    assert "EMBEDMQ_PREFIX" not in as_text(endpoints, ["m"], "embedmq")
    assert json.loads(as_json(endpoints, ["m"], "mine"))["prefix"] == "mine"


def test_ctrl_c_ends_up_with_130(program: Running) -> None:
    """For people it prints lines to copy; Ctrl-C leaves nothing."""
    with program(UP_ALONE, "--workers", "0") as process:
        first, processes = started(process)
        assert first == "Ready; Ctrl-C ends it all. In another terminal:"
        process.send_signal(signal.SIGINT)
        assert process.wait(GONE_S) == 130
        assert process.stdout is not None
        output = process.stdout.read()
        assert "export EMBEDMQ_KAFKA=127.0.0.1:" in output
        assert " EMBEDMQ_REDIS=redis://127.0.0.1:" in output
        assert_gone(processes)


def test_up_ends_when_a_process_ends(program: Running) -> None:
    """It says which, with the log, which stays, stops the rest, and its exit code is 1."""
    with program(UP_JSON, "--workers", "0") as process:
        line, processes = started(process)
        psutil.Process(json.loads(line)["pids"]["kafka"][0]).kill()
        _, errors = process.communicate(timeout=GONE_S)
        assert process.returncode == 1
        assert "kafka-1 ended with exit code -9" in errors
        log = Path(errors.split("its log is ")[1].strip())
        assert "Kafka Server started" in log.read_text()
        assert_gone(processes)
        log.unlink()
        log.with_name("redis.log").unlink()
        log.parent.rmdir()
        log.parent.parent.rmdir()


@pytest.mark.parametrize(("text", "reason"), [(None, "cannot read"), ("[models", "is no TOML")])
def test_a_config_that_cannot_be_read_ends_up_with_2(
    program: Running, tmp_path: Path, text: str | None, reason: str
) -> None:
    """One line, and nothing is left running."""
    config = tmp_path / "worker.toml"
    if text is not None:
        config.write_text(text)
    code = UP + "from pathlib import Path; up([], obj=Invocation(config=Path(sys.argv[1])))"
    with program(code, config) as process:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 2
        assert reason in errors
        assert len(errors.splitlines()) == 1


def test_an_exception_inside_a_stack_ends_it() -> None:
    """The processes and the temporary folder go with the `with` statement."""
    seen: list[psutil.Process] = []

    def fail(stack: Stack) -> None:
        seen.extend(psutil.Process(pid) for pid in (stack.redis_server.pid, stack.brokers[0].pid))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), Stack() as stack:
        fail(stack)
    assert_gone(seen)
    assert not stack.brokers[0].log.exists()


def test_sighup_goes_to_the_workers_and_ends_nothing_else() -> None:
    """Where no terminal is. A program that does not know it ends, which is how it is seen here."""
    with Stack() as stack:
        worker = stack.start_worker(command=["sleep", "600"])
        assert worker.process is not None
        worker.process.wait_until(lambda: psutil.Process(worker.pid).name() == "sleep", GONE_S)  # until then it is deaf
        with passed_on(stack):
            os.kill(os.getpid(), signal.SIGHUP)
            with pytest.raises(ProcessError, match="worker-1 ended with exit code -1"):
                stack.wait()
        assert stack.redis_server.running
        assert all(broker.running for broker in stack.brokers)
