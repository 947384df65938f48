"""Bulk jobs on the command line: known from anywhere, asked to pause, go on and end; their progress shown."""

from __future__ import annotations

import asyncio
import fcntl
import io
import json
import os
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TextIO

import msgspec
import pytest
from embedmq.bulk.board import Board
from embedmq.bulk.status import JobStatus, State
from embedmq.cli.bars import show
from embedmq.cli.job_rows import duration
from embedmq.store import Store
from embedmq_local.stack import Stack
from embedmq_schemas.connection import RedisConnection
from embedmq_schemas.names import Names

from tests.cli.conftest import Run

DOCS = JobStatus(
    name="docs",
    state="running",
    model="minilm",
    source="postgresql://ann:secret@db/docs?table=pages",
    sink="vectors.parquet",
    rows_done=1_190,
    rows_failed=10,
    rows_total=10_000,
    tokens=44_000,
    rate_per_s=812.4,
    left_s=200.0,
    host="ingest-1",
    pid=77,
    started_unix_s=1_767_312_000.0,
    updated_unix_s=1_767_312_060.0,
)
LIMIT_S = 110.0


class Runner:
    """A process's part: holds a job, posts how it is, and obeys."""

    def __init__(self, board: Board, loop: asyncio.AbstractEventLoop) -> None:
        self._board = board
        self._loop = loop
        self._held = set[str]()
        self.deaf = False

    def post(self, status: JobStatus, *, held: bool = True) -> None:
        """Say how a job is, and hold it or let it go."""
        asyncio.run_coroutine_threadsafe(self._post(status, held=held), self._loop).result(LIMIT_S)

    async def _post(self, status: JobStatus, *, held: bool) -> None:
        if held:
            await self._board.take(status.name, "token", "a test")
            self._held.add(status.name)
        else:
            self._held.discard(status.name)
            await self._board.leave(status.name, "token")
        await self._board.post(status)

    async def obey(self) -> None:
        """Do what is wished of `DOCS`, and keep what is held, until cancelled."""
        states: dict[str, State] = {"pause": "paused", "resume": "running", "cancel": "cancelled"}
        while True:
            wish = await self._board.wish(DOCS.name)
            if wish is not None and not self.deaf:
                await self._board.post(msgspec.structs.replace(DOCS, state=states[wish]))
                await self._board.clear_wish(DOCS.name, wish)
            for name in self._held:
                await self._board.keep(name, "token")
            await asyncio.sleep(0.02)


@pytest.fixture
def runner(stack: Stack, prefix: str) -> Iterator[Runner]:
    """One in a thread of its own, which is gone when the test is."""
    started: Future[tuple[Runner, asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()

    async def work() -> None:
        store = Store(RedisConnection(url=stack.redis), 10.0)
        await store.start()
        runner = Runner(Board(store, Names(prefix)), asyncio.get_running_loop())
        obeying = asyncio.create_task(runner.obey())
        started.set_result((runner, asyncio.get_running_loop(), obeying))
        await asyncio.wait({obeying}, timeout=LIMIT_S)
        await store.stop()

    thread = threading.Thread(target=asyncio.run, args=(work(),))
    thread.start()
    runner, loop, obeying = started.result(LIMIT_S)
    yield runner
    loop.call_soon_threadsafe(obeying.cancel)
    thread.join(LIMIT_S)
    assert not thread.is_alive(), "the runner did not end"


def test_jobs_are_listed_the_newest_first(embedmq: Run, runner: Runner) -> None:
    """Also those that ended and those that died; for programs all that is known, and no password anywhere."""
    assert embedmq("jobs").out == "no jobs: embedmq reindex begins one\n"
    runner.post(DOCS)
    runner.post(JobStatus(name="older", state="done", rows_done=5, sink="\x1b[31mred"), held=False)
    runner.post(msgspec.structs.replace(DOCS, name="newer", state="waiting", started_unix_s=2e9), held=False)

    table, lines = embedmq("jobs", "--kafka", "127.0.0.1:1"), embedmq("jobs", "--json").lines

    head, *rows = [re.split("  +", line) for line in table.out.splitlines()]
    assert head == ["NAME", "STATE", "ROWS", "FAILED", "RATE", "LEFT", "MODEL", "SINK"]
    assert [row[:2] for row in rows] == [["newer", "interrupted"], ["docs", "running"], ["older", "done"]]
    assert rows[1][2:] == ["1,200/10,000 (12 %)", "10", "812/s", "3m 20s", "minilm", "vectors.parquet"]
    assert [line["name"] for line in lines] == ["newer", "docs", "older"]
    assert lines[1]["source"] == "postgresql://ann:***@db/docs?table=pages"
    assert "\x1b" not in table.out


def test_a_job_is_shown_with_what_to_do_next(embedmq: Run, runner: Runner) -> None:
    """One that died with the command that goes on."""
    runner.post(DOCS)
    shown = dict(line.split(maxsplit=1) for line in embedmq("job", "docs").out.splitlines())
    assert shown["rows"] == "1,200/10,000 (12 %) rows, 10 failed, 812/s"
    assert (shown["process"], shown["left"]) == ("77 on ingest-1", "3m 20s")
    assert "embedmq job docs --follow" in shown["next"]

    runner.post(DOCS, held=False)
    died = embedmq("job", "docs")
    assert "embedmq reindex --model minilm --source 'postgresql://ann:***@db/docs?table=pages' --sink" in died.out
    assert embedmq("job", "docs", "--json").lines[0]["state"] == "interrupted"


def test_a_job_that_is_not_known_is_answered_with_those_that_are(embedmq: Run, runner: Runner) -> None:
    """Exit code 1."""
    assert embedmq("job", "dosc").err == "embedmq: error: job dosc is not known; none is\n"
    runner.post(DOCS)
    assert embedmq("job", "dosc", "pause") == (1, "", "embedmq: error: job dosc is not known; these are: docs\n")


def test_a_job_pauses_goes_on_and_ends_as_it_is_asked(embedmq: Run, runner: Runner) -> None:
    """Each command ends when the job has obeyed; asking once more for what is so already is no error."""
    runner.post(DOCS)
    for wish, state in [("pause", "paused"), ("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")]:
        done = embedmq("job", "docs", wish)
        assert (done.code, done.out.partition(":")[0]) == (0, state), done
        assert embedmq("job", "docs", "--json").lines[0]["state"] == state
    late = embedmq("job", "docs", "pause")
    assert (late.code, late.err) == (
        1,
        "embedmq: error: job docs is cancelled, and nobody runs it: there is nothing to pause\n",
    )


def test_a_job_that_does_not_obey_in_time_ends_in_4(embedmq: Run, runner: Runner) -> None:
    """The wish is not taken back: it counts as soon as somebody hears it."""
    runner.post(DOCS)
    runner.deaf = True
    done = embedmq("job", "docs", "pause", "--wait-s", "0.1")
    assert done.code == 4
    assert "docs is running, and was asked to pause" in done.err
    runner.deaf = False
    assert embedmq("job", "docs", "pause").code == 0


@pytest.mark.parametrize("wish", ["pause", "cancel", "resume"])
def test_what_nobody_runs_cannot_be_asked_for_anything(embedmq: Run, runner: Runner, wish: str) -> None:
    """Exit code 1; who wants it to go on learns how."""
    runner.post(DOCS, held=False)
    done = embedmq("job", "docs", wish)

    assert done.code == 1
    assert "docs is interrupted, and nobody runs it" in done.err
    assert ("embedmq reindex --model minilm" in done.err) == (wish == "resume")


def test_a_shell_completes_the_names_of_jobs(runner: Runner, environment: dict[str, str]) -> None:
    """And says nothing where Redis is not there."""
    runner.post(DOCS)
    asked = {"COMP_WORDS": "embedmq job d", "COMP_CWORD": "2", "_EMBEDMQ_COMPLETE": "bash_complete"}
    for redis, found in ((environment["EMBEDMQ_REDIS"], "plain,docs"), ("redis://127.0.0.1:1", "")):
        done = subprocess.run(
            [sys.executable, "-c", "from embedmq.cli.root import main; main()"],
            env=environment | asked | {"EMBEDMQ_REDIS": redis},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert (done.stdout.strip(), done.stderr) == (found, "")


class Terminal:
    """A pseudo-terminal of some width: what is written to `stream` is read back from it."""

    def __init__(self, columns: int) -> None:
        self._master, self.slave = os.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.stream: TextIO = os.fdopen(os.dup(self.slave), "w", encoding="utf-8")

    def read(self) -> str:
        """All that was written, once nobody writes any more."""
        self.stream.close()
        os.close(self.slave)
        parts: list[bytes] = []
        try:
            while part := os.read(self._master, 65_536):
                parts.append(part)
        except OSError:  # how Linux ends what a terminal gives
            pass
        os.close(self._master)
        return b"".join(parts).decode()


def frames(written: str) -> list[str]:
    """What a line showed one after the other, without colours."""
    return re.sub("\x1b\\[[0-9;]*[mA]", "", written).replace("\n", "\r").split("\r")


@pytest.mark.parametrize("columns", [0, 40, 100])
def test_a_bar_is_drawn_on_a_terminal_as_wide_as_it_is(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, rate, time left, failures and state; lines stand above it, and obey nothing. Some terminals say 0."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal, now_s = Terminal(columns), 0.0
    with show(json=False, stream=terminal.stream, clock=lambda: now_s) as progress:
        progress.update(DOCS)
        progress.update(msgspec.structs.replace(DOCS, rows_done=1_500))  # too soon to be drawn
        progress.note("row 7\x1b[2J: no text")
        progress.update(msgspec.structs.replace(DOCS, state="waiting", message="Qdrant is away", rate_per_s=0.0))
        progress.update(msgspec.structs.replace(DOCS, state="done", rows_done=9_990, left_s=None))
    written = terminal.read()

    shown = [frame for frame in frames(written) if frame.strip()]
    assert all(len(frame) <= (columns or 80) for frame in shown)
    assert "row 7\\x1b[2J: no text" in [frame.strip() for frame in shown]
    assert "1510/10000" not in written
    assert "\x1b[33m" in written or "\x1b[38" in written
    if columns == 100:
        assert re.search(r"docs  12%\|█+.*\| 1200/10000 rows, 812/s, 3m 20s left, 10 failed", written)
        assert "1200/10000 rows, waiting: Qdrant is away, 10 failed" in written
        assert re.search(r"docs 100%\|.*\| 10000/10000 rows, done, 812/s, 10 failed", shown[-1])


def test_a_bar_without_a_known_end_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """And has no colours where nobody wants them."""
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal(80)
    with show(json=False, stream=terminal.stream) as progress:
        progress.update(msgspec.structs.replace(DOCS, rows_total=None, left_s=None, state="paused"))
    written = terminal.read()

    assert "docs 1200 rows, paused, 812/s, 10 failed" in written
    assert "\x1b[3" not in written


def test_in_a_log_there_is_a_line_at_the_beginning_and_one_at_the_end() -> None:
    """Also when it ends in an exception, and nothing where there was nothing to show."""
    log = io.StringIO()

    def work() -> None:
        with show(json=False, stream=log) as progress:
            for rows in range(1_000):
                progress.update(msgspec.structs.replace(DOCS, rows_done=rows))
            progress.update(msgspec.structs.replace(DOCS, state="interrupted", rows_done=1_000, rate_per_s=0.0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    first, last = log.getvalue().splitlines()
    assert first.startswith("embedmq: job docs begins: minilm: postgresql://ann:***@db/docs?table=pages -> vectors.")
    assert last == "embedmq: job docs interrupted: 1,010/10,000 (10 %) rows, 10 failed"
    with show(json=False, stream=io.StringIO()):
        pass


def test_programs_get_a_line_a_second_and_every_change_of_state(capsys: pytest.CaptureFixture[str]) -> None:
    """The last one is how it ended; what is for people is on the other stream."""
    now_s, log = 0.0, io.StringIO()
    with show(json=True, stream=log, clock=lambda: now_s) as progress:
        for now_s in (0.0, 0.4, 0.9, 1.0, 1.5):
            progress.update(msgspec.structs.replace(DOCS, rows_done=int(now_s * 10)))
        progress.update(msgspec.structs.replace(DOCS, state="paused"))
        progress.note("a note")
        progress.update(msgspec.structs.replace(DOCS, state="paused", rows_done=99))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert [(line["state"], line["rows_done"]) for line in lines] == [
        ("running", 0),
        ("running", 10),
        ("paused", 1_190),
        ("paused", 99),
    ]
    assert set(lines[0]) == set(JobStatus.__struct_fields__)
    assert log.getvalue() == "a note\n"


@contextmanager
def following(environment: dict[str, str], stderr: int, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "embedmq", "job", "docs", "--follow", *flags]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr) as process:
        yield process


def test_a_job_is_followed_from_elsewhere_until_it_ends(runner: Runner, environment: dict[str, str]) -> None:
    """A bar where standard error is a terminal; lines, and not one character that moves, where it is a pipe."""
    runner.post(DOCS)
    terminal = Terminal(100)
    with (
        following(environment, terminal.slave) as looking,
        following(environment, subprocess.PIPE) as piped,
        following(environment, subprocess.PIPE, "--json") as program,
    ):
        assert program.stdout is not None
        first = json.loads(program.stdout.readline())
        runner.post(msgspec.structs.replace(DOCS, state="done", rows_done=10_000, rows_failed=0), held=False)
        out, err = piped.communicate(timeout=LIMIT_S)
        rest, noise = program.communicate(timeout=LIMIT_S)
        drawn, _ = looking.communicate(timeout=LIMIT_S)

    assert (looking.returncode, piped.returncode, program.returncode) == (0, 0, 0)
    assert re.search(r"docs .*10000/10000 rows, done", terminal.read())
    assert (out, drawn, noise) == (b"", b"", b"")
    assert not {b"\r", b"\x1b"} & {bytes([byte]) for byte in err}
    assert 1 <= len(err.splitlines()) <= 2
    assert first["state"] == "running"
    assert json.loads(rest.splitlines()[-1])["rows_done"] == 10_000


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0s"), (59.6, "1m 0s"), (200, "3m 20s"), (7_530, "2h 5m"), (273_600, "3d 4h")],
)
def test_durations_are_said_in_two_units(seconds: float, said: str) -> None:
    """The two largest."""
    assert duration(seconds) == said
