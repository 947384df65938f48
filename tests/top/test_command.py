"""`embedmq top` beside a real worker: as a program in a terminal, as a table, and as JSON; and docs/top.md is true."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import embedmq
import pytest
from embedmq.cli.top import EXTRA
from embedmq.settings import Setup
from embedmq.top.live import live
from embedmq.top.view import NO_LAG, FleetRow, ModelRow, View, WorkerRow
from embedmq_local.stack import Stack
from embedmq_local.worker import Worker
from msgspec.structs import fields
from prometheus_client.parser import text_string_to_metric_families

from docs.pages.top_picture import PICTURE, picture
from tests.worker.world import eventually

PAGE = Path(__file__, "../../../docs/top.md").resolve().read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PREFIX = "topped"
MODELS = f"""
prefix = "{PREFIX}"
[models.fast]
checkpoint = "null:8"
pinned = true
[models.slow]
checkpoint = "null:8?batch_ms=5500"
[models.tail]
checkpoint = "null:8?batch_ms=5500"
shared = true
[models.idle]
checkpoint = "null:8"
"""
COMMAND = (sys.executable, "-m", "embedmq", "top")
WIDTH, HEIGHT = 80, 24
DEADLINE_S = 60


@pytest.fixture(scope="module")
def worker(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One that serves models which compute nothing, some of them slowly."""
    file = tmp_path_factory.mktemp("top") / "worker.toml"
    file.write_text(MODELS)
    started = stack.start_worker(file)
    started.wait_ready()
    yield started
    started.stop()


@pytest.fixture
def environ(stack: Stack, worker: Worker) -> dict[str, str]:
    """How a program finds that worker."""
    del worker
    return {
        **os.environ,
        "EMBEDMQ_KAFKA": stack.kafka,
        "EMBEDMQ_REDIS": stack.redis,
        "EMBEDMQ_PREFIX": PREFIX,
        "TERM": "xterm-256color",
    }


async def test_what_a_worker_does_is_seen_while_it_does_it(stack: Stack, worker: Worker) -> None:
    """Lag by lane with tokens and age, on the shared topics too, and the gauges say the same; then rates and fill; and
    nothing waits any more when all is done. Each batch takes longer than the time between two statuses.
    """
    setup = Setup.of(stack.kafka, stack.redis, {"prefix": PREFIX})
    assert setup.redis is not None
    async with (
        embedmq.Client(stack.kafka, stack.redis, prefix=PREFIX) as mq,
        live(setup, setup.redis, 0.0) as found,
    ):
        for model in ("slow", "tail"):
            await mq.publish(model, ["one two three", "four"], keep_s=0)
        seen = set[str]()

        async def waiting() -> bool | None:
            rows = {row.model: row for row in (await found.read()).models}
            for model in ("slow", "tail"):
                lag = rows[model].lag.get("bulk", NO_LAG) if model in rows else NO_LAG
                if lag.records == 1 and lag.tokens and lag.oldest_s:
                    seen.add(model)
            text = await asyncio.to_thread(_get, f"http://{worker.http}/metrics")
            for sample in (one for family in text_string_to_metric_families(text) for one in family.samples):
                if sample.labels.get("lane") == "bulk" and sample.value:
                    seen.add(f"{sample.name} of {sample.labels.get('model')}")
            gauges = {f"embedmq_lag_{what} of slow" for what in ("records", "tokens", "age_seconds")}
            return seen >= {"slow", "tail"} | gauges or None

        await eventually(waiting, "what waits", DEADLINE_S)

        async def done() -> View | None:
            view = await found.read()
            rows = {row.model: row for row in view.models}
            ended = all(rows[model].batch_fill is not None for model in ("slow", "tail"))
            return view if ended and not view.fleet.lag.records else None

        view = await eventually(done, "the end", DEADLINE_S)
        (only,) = view.workers
        rows = {row.model: row for row in view.models}
        assert rows["slow"].states == {"resident": 1}
        assert rows["idle"].states == {"absent": 1}
        assert rows["fast"].lag == {"interactive": NO_LAG, "bulk": NO_LAG}
        assert rows["tail"].lag == {"interactive": NO_LAG, "bulk": NO_LAG}
        assert min(rows["slow"].items_per_s, rows["slow"].tokens_per_s, only.busy or 0) > 0
        assert only.version
        assert only.partitions.keys() == {"interactive", "bulk", "retry"}
        assert (only.models, only.memory_budget_bytes > 0, view.fleet.lag) == (4, True, NO_LAG)


def test_once_prints_a_table_and_one_json_value_without_the_extra(environ: dict[str, str]) -> None:
    """Both need neither a terminal nor textual; the live view says in one line what it needs."""
    without = (
        "import sys; sys.modules['textual'] = sys.modules['rich'] = None; from embedmq.cli.root import main; main()"
    )

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", without, "top", *arguments]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=DEADLINE_S)

    table = call("--once")
    assert table.returncode == 0, table.stderr
    assert "\x1b" not in table.stdout
    assert {line.split()[0] for line in table.stdout.splitlines() if line} >= {"MODEL", "WORKER", "fast", "idle"}
    document = call("--once", "--json")
    view: dict[str, Any] = json.loads(document.stdout)
    assert document.stdout.count("\n") == 1
    assert view["prefix"] == PREFIX
    assert {model["model"] for model in view["models"]} == {"fast", "slow", "tail", "idle"}
    for wrong, said in ((("--interval-s", "1"), EXTRA), (("--json",), "--json goes with --once")):
        refused = call(*wrong)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert said in refused.stderr
    away = call("--once", "--redis", "redis://:hush@127.0.0.1:1/0")
    assert (away.returncode, away.stderr.count("\n")) == (3, 1)
    assert "hush" not in away.stderr


@pytest.mark.parametrize(("end", "code"), [("q", 0), ("\x03", 130), (signal.SIGTERM, 130)])
def test_in_a_terminal_it_shows_the_worker_and_ends_as_told(
    environ: dict[str, str], end: str | signal.Signals, code: int
) -> None:
    """By a key, by Ctrl-C and by SIGTERM; the terminal is left as it was found."""
    assert _in_terminal(environ, end) == code


def test_the_page_s_commands_do_as_it_says(environ: dict[str, str]) -> None:
    """The live view is left by `q`; what is for scripts prints what it names."""
    install, watch, once = (block.splitlines() for block in BLOCKS)
    assert install == ["pip install 'embedmq[top]'"]
    assert watch == ["embedmq top"]
    assert once == ["embedmq top --once", "embedmq top --once --json"]
    for line in (*watch, *once):
        assert line.split()[:2] == ["embedmq", "top"]
        assert set(line.split()[2:]) <= {"--once", "--json"}  # as run above


def test_the_page_names_every_field() -> None:
    """Of the JSON."""
    named = set(re.findall(r"`([\w\[\]]+)`", PAGE.split("## For scripts")[1]))
    wanted = {field.encode_name for kind in (View, FleetRow, ModelRow, WorkerRow) for field in fields(kind)}
    assert wanted - {"models", "workers"} <= named
    assert {"models[]", "workers[]"} <= named


async def test_the_picture_is_what_it_looks_like() -> None:
    """Its words, since how Textual draws them may change with its version."""
    drawn = await picture()
    assert "font-face" not in drawn
    assert _words(PICTURE.read_text(encoding="utf-8")) == _words(drawn)


def _words(svg: str) -> list[str]:
    found = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    return [text for text in found if not re.search(r"\d\d:\d\d:\d\d", text)]


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
        text: str = answer.read().decode()
        return text


def _in_terminal(environ: dict[str, str], end: str | signal.Signals) -> int:
    """Run it in a terminal until it shows a worker, then end it; returns the exit code."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    before = termios.tcgetattr(slave)
    with subprocess.Popen(COMMAND, env=environ, stdin=slave, stdout=slave, stderr=slave, start_new_session=True) as top:
        try:
            _read_until(master, b"1 worker")
            if isinstance(end, str):
                os.write(master, end.encode())
            else:
                top.send_signal(end)
            _read_until(master, b"\x1b[?1049l")  # the screen that was there before
            code = top.wait(DEADLINE_S)
        finally:
            top.kill()
    assert termios.tcgetattr(slave)[:4] == before[:4]
    os.close(master)
    os.close(slave)
    return code


def _read_until(terminal: int, wanted: bytes) -> None:
    seen, end_s = b"", time.monotonic() + DEADLINE_S
    while wanted not in seen:
        assert select.select([terminal], [], [], max(0.0, end_s - time.monotonic()))[0], f"no {wanted!r} in {seen!r}"
        seen += os.read(terminal, 65_536)
