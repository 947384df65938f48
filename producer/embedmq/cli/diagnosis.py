"""Which checks of its own does `embedmq doctor` make, and in which order?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Final

import click
from embedmq_schemas.check import MISCONFIGURED, Check, Look
from embedmq_schemas.invocation import Invocation

from embedmq.cli import diagnosis_kafka, diagnosis_redis
from embedmq.cli.connecting import setup_of

SETTINGS: Final = Look(
    name="settings",
    at="options, environment and file, as far as they say how Kafka and Redis are reached",
    bad_is="a wrong value, a file that cannot be read, a login without its password",
    remedy="correct what is named; docs/settings.md has every setting and its variable",
    exit_code=MISCONFIGURED,
)
TOP: Final = Look(
    name="top",
    at="whether what `embedmq top` needs is installed",
    bad_is="never bad: nothing else needs it",
    remedy="pip install 'embedmq[top]'",
)
LOOKS: Final = (SETTINGS, *diagnosis_kafka.LOOKS, *diagnosis_redis.LOOKS, TOP)


def checks(invocation: Invocation) -> Iterator[Check]:
    """Settings, then Kafka, then Redis; in minutes at most, whatever hangs."""
    try:
        setup = setup_of(invocation)
    except click.UsageError as error:
        yield SETTINGS.bad(error.message)
        why = "the settings are wrong"
        yield from (look.skipped(why) for look in (*diagnosis_kafka.LOOKS, *diagnosis_redis.LOOKS))
        return
    yield SETTINGS.good(f"prefix {setup.prefix}, Kafka at {','.join(setup.kafka.bootstrap)}")
    produces = invocation.config is None
    yield from asyncio.run(diagnosis_kafka.kafka_checks(setup, produces=produces))
    yield from asyncio.run(diagnosis_redis.redis_checks(setup, produces=produces))
    yield TOP.good("installed") if find_spec("textual") else TOP.skipped("textual is not installed", TOP.remedy)
