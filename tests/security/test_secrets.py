"""Neither a password nor the text of a request is ever shown: whatever a worker or a command writes is searched."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import embedmq
import pytest
from embedmq_local.worker import Worker
from redis.asyncio import Redis

from tests.security.company import Company, company_of
from tests.security.guarded import USERS, Guarded, password

TEXT = "what-nobody-but-the-model-reads"
DONE_S = 60.0
BROKEN = (
    '{"items": ["TEXT"',
    '{"items": ["TEXT"], "id": "TEXT TEXT"}',
    '{"items": ["TEXT"], "TEXT": 1}',
    '{"items": ["TEXT"], "dimensions": "TEXT"}',
    '{"items": ["TEXT"], "revision": "r", "prompt": "TEXT", "prompt_name": "TEXT"}',
    '{"items": ["TEXT"], "deadline_unix_ms": 1}',
    '{"items": ["TEXT"], "model": "TEXT", "reply": {"type": "topic", "topic": "nowhere"}}',
)
"""Requests that fail, each for a reason of its own."""
COMMANDS = (
    ("config", "show"),
    ("config", "check"),
    ("models",),
    ("top", "--once"),
    ("doctor",),
    ("topics", "show"),
    ("jobs",),
)


@pytest.fixture(scope="module")
def company(doors: Guarded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    with company_of(doors, tmp_path_factory.mktemp("secrets")) as company:
        company.command("operator", "topics", "create", "minilm", "--partitions", "1")
        yield company


@pytest.fixture(scope="module")
def worker(company: Company) -> Iterator[Worker]:
    """One that says all it can, also when it crashes."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("EMBEDMQ_WORKER__LOG_LEVEL", "debug")
        environment.setenv("PYTHONFAULTHANDLER", "1")
        with company.worker() as worker:
            yield worker


def searched(said: str, what: str) -> None:
    """Fails, without repeating it, where there is something that must not be."""
    assert said, f"{what}: nothing was said"
    for hidden in (TEXT, *map(password, USERS)):
        assert hidden not in said, f"{what} has what must not be shown, at {said.index(hidden)}"


def run(company: Company, *words: str) -> str:
    """All that a command says to an operator, whose every setting comes from the environment."""
    command = [sys.executable, "-m", "embedmq", "--debug", "--config", str(company.config()), *words]
    environment = {**os.environ, **company.environment("operator")}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=DONE_S, check=False, stdin=subprocess.DEVNULL
    )
    return done.stdout + done.stderr


async def test_what_a_worker_says_of_good_and_bad_requests_has_neither(company: Company, worker: Worker) -> None:
    """Its log, its metrics, what it publishes of itself, and how it dies of a crash."""
    topic = f"{company.prefix}.minilm.interactive"
    async with company.client("producer") as mq, asyncio.timeout(DONE_S):
        for broken in BROKEN:
            await company.put(topic, broken.replace("TEXT", TEXT).encode())
        await mq.embed("minilm", [TEXT])
        with pytest.raises(embedmq.RequestFailed):
            await mq.embed("minilm", [TEXT], dimensions=10**6)
    searched(scrape(worker), "/metrics")
    searched(scrape(worker, "/ready"), "/ready")
    async with Redis.from_url(company.doors.redis_plain) as redis:
        for name in ("worker", "model"):
            keys = [key async for key in redis.scan_iter(f"{company.prefix}:{name}:*")]
            assert keys
            for value in await redis.mget(keys):
                assert isinstance(value, bytes)
                searched(value.decode(), name)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_what_a_command_says_has_no_secret(company: Company, worker: Worker, words: tuple[str, ...]) -> None:
    """To people and, with tracebacks, to whoever debugs it."""
    searched(run(company, *words), " ".join(words))


def test_a_log_has_neither_though_its_worker_crashed(company: Company, worker: Worker) -> None:
    """Whoever sends a log to somebody else gives nothing away. Last, since the worker is gone then."""
    worker.stop(signal.SIGABRT)
    said = worker.log.read_text()
    assert "Fatal Python error: Aborted" in said
    searched(said, "the log")
    assert len(company.events("dead_letter")) >= 3


def scrape(worker: Worker, path: str = "/metrics") -> str:
    host, _, port = worker.http.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=DONE_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()
