"""Whoever has to do with EmbedMQ, each with the rights of docs/security.md and no others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click.testing
import embedmq
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from embedmq.cli.root import make_root
from embedmq_local.worker import Worker

from tests.security.guarded import Guarded
from tests.security.rights import Right
from tests.security.tables import give_all_of_redis, give_redis_rules, kafka_rights

TOLD_S = 60.0
CONFIG = """
prefix = "{prefix}"
[kafka]
start_timeout_s = 5.0
session_timeout_ms = 6000
heartbeat_interval_ms = 500
metadata_max_age_ms = 1000
[models.minilm]
checkpoint = "null:8"
"""


@dataclass(frozen=True)
class Company:
    """One fleet behind guarded doors: `environment` makes one of its users of a client or a command."""

    doors: Guarded
    prefix: str
    folder: Path

    @property
    def reply_topic(self) -> str:
        return f"{self.prefix}-vectors"

    @property
    def rights(self) -> list[Right]:
        return kafka_rights(self.prefix, self.reply_topic)

    def environment(self, user: str) -> dict[str, str]:
        return self.doors.environment(user) | {"EMBEDMQ_PREFIX": self.prefix}

    @contextlib.asynccontextmanager
    async def client(self, user: str) -> AsyncIterator[embedmq.Client]:
        async with embedmq.Client.from_env(self.environment(user)) as mq:
            yield mq

    def command(self, user: str, *words: str, code: int = 0) -> str:
        """What a command prints, which ends with `code`."""
        from embedmq.cli.exits import exit_code, say

        runner = click.testing.CliRunner(env=self.environment(user))
        ended = runner.invoke(make_root(), list(words), standalone_mode=False)
        told = ended.output
        if ended.exception is not None:
            with runner.isolation() as (_, errors, _):
                say(ended.exception)
                told += errors.getvalue().decode()
            assert exit_code(ended.exception) == code, (ended.exception, told)
        return told

    def config(self) -> Path:
        file = self.folder / "worker.toml"
        file.write_text(CONFIG.format(prefix=self.prefix))
        return file

    @contextlib.contextmanager
    def worker(self) -> Iterator[Worker]:
        """A real one, in a process of its own, once it is ready; at the end it stops when it is told to."""
        environment = self.environment("worker")
        (self.folder / "logs").mkdir(exist_ok=True)
        worker = Worker("worker", self.folder, None, config=self.config(), environment=environment)
        try:
            worker.start()
            yield worker
            if worker.running:  # not crashed by a test
                assert worker.stop() == 0, self.events("stopping", "grace_passed", "stopped")
                assert not self.events("group_not_left")
        finally:
            worker.stop(kill=True)
            worker.close()

    def events(self, *names: str) -> list[dict[str, Any]]:
        """What the worker's log says under these names."""
        lines = (self.folder / "logs" / "worker.log").read_text().splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [event for event in found if event["event"] in names]

    @contextlib.asynccontextmanager
    async def telling(self, *names: str) -> AsyncIterator[list[dict[str, Any]]]:
        """Wait at the end until the log says something under one of these names that it had not said before; that."""
        before, told = len(self.events(*names)), list[dict[str, Any]]()
        yield told
        async with asyncio.timeout(TOLD_S):
            while not (found := self.events(*names)[before:]):  # noqa: ASYNC110 -- another process writes it
                await asyncio.sleep(0.05)
        told += found

    async def put(self, topic: str, value: bytes) -> None:
        """Produce a record, by the plain door."""
        async with AIOKafkaProducer(bootstrap_servers=self.doors.kafka_plain) as producer:
            await producer.send_and_wait(topic, value)

    async def first(self, topic: str, id: str = "") -> bytes:
        """The first record of a topic, or of those that have an id in them, by the plain door."""
        where = self.doors.kafka_plain
        async with AIOKafkaConsumer(topic, bootstrap_servers=where, auto_offset_reset="earliest") as consumer:
            async for record in consumer:
                if id.encode() in record.value:
                    return bytes(record.value)
        raise AssertionError("the consumer was closed")


@contextlib.contextmanager
def company_of(doors: Guarded, folder: Path) -> Iterator[Company]:
    """One that has what it was given for as long as it lasts: others have the same users."""
    company = asyncio.run(found_company(doors, folder))
    try:
        yield company
    finally:
        asyncio.run(doors.rights.revoke(company.rights))
        asyncio.run(give_all_of_redis(doors))


async def found_company(doors: Guarded, folder: Path) -> Company:
    """Give everybody what the page says, and have the operator make the topics; the reply topic is its reader's."""
    company = Company(doors, f"t{uuid.uuid4().hex[:10]}", folder)
    await doors.rights.grant(company.rights)
    await give_redis_rules(doors, company.prefix)
    admin = AIOKafkaAdminClient(bootstrap_servers=doors.kafka_plain)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(company.reply_topic, 1, 1)])
    finally:
        await admin.close()
    return company
