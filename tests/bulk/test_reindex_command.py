"""`embedmq reindex` as it is typed: killed at any moment, started again, refused, dry."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from embedmq.cli.root import run
from embedmq_local.stack import Stack

from tests.serving import serving

ROWS = 4_000
SEED = int(os.environ.get("SEED", random.randrange(10**6)))

Command = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def served(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The prefix under which a worker serves `null`, which takes a moment for a batch."""
    config = '[worker]\nmax_batch_items = 64\n[models.null]\ncheckpoint = "null:8?batch_ms=10"\n'
    with serving(stack, tmp_path_factory.mktemp("bulk"), config) as prefix:
        yield prefix


@pytest.fixture
def environment(stack: Stack, served: str) -> dict[str, str]:
    """How a command finds the worker."""
    return {"EMBEDMQ_KAFKA": stack.kafka, "EMBEDMQ_REDIS": stack.redis, "EMBEDMQ_PREFIX": served}


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Command]:
    """Starts `embedmq` in a folder of its own; what still runs at the end is killed."""
    environment = {**os.environ, **environment}
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "embedmq", *arguments]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """Rows to embed, of which line 7 is broken and line 9 has no text."""
    lines = [json.dumps({"id": f"doc-{i}", "text": f"text {i}", "page": i}) for i in range(1, ROWS + 1)]
    lines[6], lines[8] = '{"id": "doc-7", "text": ', json.dumps({"id": "doc-9", "text": None})
    path = tmp_path / "docs.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def ask(*more: str) -> list[str]:
    return ["reindex", "--model", "null", "--source", "docs.jsonl", "--sink", "vectors.parquet", "--name", "job", *more]


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=110)
    return process.returncode, out, err


def ids(folder: Path) -> list[str]:
    table = pyarrow.parquet.read_table(folder)
    found: list[str] = table.column("id").to_pylist()
    return found


def statuses(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.timeout(120)
def test_a_job_killed_at_any_moment_ends_with_every_row_once(start: Command, docs: Path, tmp_path: Path) -> None:
    """kill -9, the same command, again and again: each row is in the sink once, the broken ones are told once."""
    print("SEED", SEED)
    draw = random.Random(SEED)
    kills = 0
    while kills < 4:
        process = start(*ask("--json", "--commit-rows", "300", "--batch", "16", "--in-flight", "256"))
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        time.sleep(draw.uniform(0, 1.0))
        process.kill()
        kills += 1
        process.communicate()
    code, out, err = finish(start(*ask("--json")))
    assert code == 1, err
    assert sorted(ids(tmp_path / "vectors.parquet")) == sorted(
        f"doc-{i}" for i in range(1, ROWS + 1) if i not in (7, 9)
    )
    last = statuses(out)[-1]
    assert (last["state"], last["rows_done"], last["rows_failed"]) == ("done", ROWS - 2, 2)
    failed = [json.loads(line) for line in (tmp_path / "job.failed.jsonl").read_text().splitlines()]
    assert [row["error"]["where"].rpartition("line ")[2] for row in failed] == ["7", "9"]
    code, _, err = finish(start(*ask()))
    assert (code, "complete before" in err, "2 rows failed" in err) == (1, True, True), err


def test_ctrl_c_keeps_what_was_done_and_says_how_to_go_on(start: Command, docs: Path, tmp_path: Path) -> None:
    """Exit code 130; the rows that were written are in the sink."""
    process = start(*ask("--json", "--batch", "16", "--rate", "300"))
    assert process.stdout is not None
    while json.loads(process.stdout.readline())["rows_done"] == 0:
        pass
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130
    assert "the same command goes on" in err
    assert "Traceback" not in err
    assert len(ids(tmp_path / "vectors.parquet")) > 0
    code, out, _ = finish(start(*ask("--json")))
    assert statuses(out)[-1]["state"] == "done"
    assert len(ids(tmp_path / "vectors.parquet")) == ROWS - 2


def test_a_second_process_with_the_same_job_is_refused(start: Command, docs: Path) -> None:
    """It names who has the job, and writes nothing; pause, resume and cancel reach the first from anywhere."""
    first = start(*ask("--json", "--rate", "50", "--batch", "16"))
    assert first.stdout is not None
    first.stdout.readline()
    code, _, err = finish(start(*ask()))
    assert code != 0
    assert f"pid {first.pid}" in err
    assert finish(start("job", "job", "pause"))[0] == 0
    assert finish(start("job", "job", "resume"))[0] == 0
    assert finish(start("job", "job", "cancel"))[0] == 0
    code, out, err = finish(first)
    assert code == 1
    assert "called off" in err
    assert statuses(out)[-1]["state"] == "cancelled"
    (job,) = [each for each in statuses(finish(start("jobs", "--json"))[1]) if each["name"] == "job"]
    assert job["state"] == "cancelled"


def test_a_dry_run_counts_and_writes_nothing(start: Command, docs: Path, tmp_path: Path) -> None:
    """Rows, those that would fail, tokens and time by a sample."""
    code, out, err = finish(start(*ask("--json", "--dry-run", "--changed-only")))
    assert code == 0, err
    (found,) = statuses(out)
    assert (found["rows"], found["failed"], found["skipped"]) == (ROWS - 2, 2, 0)
    assert found["tokens"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs.jsonl"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--text", "body"], 2, r"body.*text"),
        (["--model", "nosuch"], 2, r"nosuch is not served; these are: null"),
        (["--source", "nowhere.jsonl"], 2, r"nowhere\.jsonl"),
        (["--sink", "docs.jsonl"], 2, r"docs\.jsonl"),
        (["--sink", "vectors.bin"], 2, r"vectors\.bin.*parquet"),
        (["--failed", "no/such/folder.jsonl"], 2, r"folder\.jsonl"),
        (["--dimensions", "999"], 2, r"999"),
        (["--changed-only", "--missing-only"], 2, r"--missing-only"),
    ],
)
def test_what_cannot_work_is_refused_before_work_is_wasted(
    environment: dict[str, str],
    docs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
    message: str,
) -> None:
    """One line with the remedy, and nothing half-written."""
    monkeypatch.chdir(docs.parent)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ended = run(ask(*options))
    out, err = capsys.readouterr()
    assert (ended, out) == (code, ""), err
    assert re.search(message, err), err
    assert len(err.strip().splitlines()) == 1, err
    assert sorted(path.name for path in docs.parent.iterdir()) == ["docs.jsonl"]
