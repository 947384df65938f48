"""How is a program tested that asks for vectors? With doubles of the clients, which need no Kafka, Redis or worker."""

from __future__ import annotations

from embedmq.testing.calls import Call
from embedmq.testing.client import FakeClient, FakeSyncClient
from embedmq.testing.fleet import FakeFleet, PublishedRequest
from embedmq.testing.model import FakeModel

__all__ = ["Call", "FakeClient", "FakeFleet", "FakeModel", "FakeSyncClient", "PublishedRequest"]
