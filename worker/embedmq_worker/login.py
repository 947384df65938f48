"""How does a worker log in to Kafka, and what does it mean when it is not let in?"""

from __future__ import annotations

from functools import partial
from typing import Any

from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest
from embedmq_schemas.connection import KafkaConnection, TokenFile
from embedmq_schemas.refusal import Refusal, probe


class TokenFileProvider(TokenFile, AbstractTokenProvider):  # type: ignore[misc]  # aiokafka ships no types
    """Tokens from a file, as aiokafka asks for them."""


def connection_options(settings: KafkaConnection) -> dict[str, Any]:
    """The keyword arguments that any aiokafka client takes; raises OSError and ValueError as `settings.options`."""
    options: dict[str, Any] = settings.options()  # the types are aiokafka's
    if settings.sasl_token_file is not None:
        options["sasl_oauth_token_provider"] = TokenFileProvider(settings.sasl_token_file)
    return options


async def why_not(settings: KafkaConnection) -> Refusal | None:
    """Why the first broker cannot be talked to, which aiokafka only logs; None if it can."""
    options = connection_options(settings)
    host, _, port = str(options.pop("bootstrap_servers")[0]).rpartition(":")
    if not host:
        host, port = port, "9092"
    connect = partial(create_conn, host.strip("[]"), int(port), **options)
    return await probe(connect, _ask, tls=settings.tls, mechanism=settings.sasl_mechanism)


async def _ask(connection: AIOKafkaConnection) -> None:
    answer = await connection.send(MetadataRequest([]))
    if not answer.brokers:  # as it looks to aiokafka when a broker goes on complaining about a token
        raise KafkaError("it names no brokers")
