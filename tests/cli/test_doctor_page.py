"""docs/doctor.md is true: its table is what the source says, and its transcript is what a run prints."""

from __future__ import annotations

import re
from contextlib import closing

import pytest
from embedmq.cli import diagnosis
from embedmq_local.redis_server import RedisServer
from embedmq_schemas.check import Look
from embedmq_worker import doctor as worker
from redis import Redis

from docs.pages.source import ROOT
from tests.cli.conftest import Run
from tests.cli.test_doctor import redis

__all__ = ["redis"]

PAGE = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
TRANSCRIPT = re.search(r"^```console\n\$ embedmq doctor\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def table() -> str:
    """Every look as a row of the page."""
    looks: list[Look] = [*diagnosis.LOOKS, *worker.LOOKS]
    rows = [f"| `{look.name}` | {look.at} | {look.bad_is} | {look.remedy} | {look.exit_code} |" for look in looks]
    return "\n".join(
        ["| check | what it looks at | what bad looks like | what to do | exits with |", "|---|---|---|---|---|", *rows]
    )


def constant(text: str) -> list[str]:
    """Lines without what differs from run to run: addresses, figures, prefixes."""
    text = re.sub(r"\bt[0-9a-f]{10}\b|\bembedmq\b", "PREFIX", text).replace(" ahead of ", " behind of ")
    return [re.sub(r"\d[\d.:]*", "0", line) for line in text.splitlines()]


def test_the_table_is_what_the_source_says() -> None:
    """Row by row, in the order in which is looked."""
    assert table() in PAGE


def test_the_transcript_is_what_a_run_prints(embedmq: Run, redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a Redis that evicts."""
    assert TRANSCRIPT is not None
    embedmq("topics", "create", "minilm")
    monkeypatch.setenv("EMBEDMQ_REDIS", redis.url)
    with closing(Redis.from_url(redis.url)) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            done = embedmq("doctor")
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    assert done.code == 1
    assert constant(done.out) == constant(TRANSCRIPT[1])
