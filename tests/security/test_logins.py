"""Producers get in by every way that Kafka has, and both ends know with whom they talk."""

from __future__ import annotations

import aiokafka
import pytest
from embedmq_schemas.connection import KafkaConnection

from tests.security.guarded import Guarded, password


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_login_of_each_kind_is_let_in(doors: Guarded, mechanism: str) -> None:
    connection = KafkaConnection(
        bootstrap=[doors.kafka],
        tls=True,
        ca_file=str(doors.authorities.ca),
        sasl_mechanism=mechanism,
        sasl_username="worker",
        sasl_password=password("worker"),
    )
    producer = aiokafka.AIOKafkaProducer(**connection.options())
    await producer.start()
    await producer.stop()
