"""What may whom do in Kafka, and how do tests change it while the broker runs?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest
from msgspec import Struct

# The numbers are the protocol's: https://kafka.apache.org/protocol.html (org.apache.kafka.common.acl, .resource)
RESOURCES: Final = {"Topic": 2, "Group": 3, "Cluster": 4}
PATTERNS: Final = {"literal": 3, "prefixed": 4}
OPERATIONS: Final = {
    "Read": 3,
    "Write": 4,
    "Create": 5,
    "Delete": 6,
    "Alter": 7,
    "Describe": 8,
    "DescribeConfigs": 10,
    "AlterConfigs": 11,
    "IdempotentWrite": 12,
}
ALLOW: Final = 3
SEEN_TIMEOUT_S: Final = 10.0


class Right(Struct, frozen=True):
    """One row: a principal (`User:name`) may do one operation on what a pattern names."""

    principal: str
    resource: str
    name: str
    pattern: str
    operation: str

    def numbers(self) -> tuple[int, str, int, str, str, int, int]:
        return (
            RESOURCES[self.resource],
            self.name,
            PATTERNS[self.pattern],
            self.principal,
            "*",
            OPERATIONS[self.operation],
            ALLOW,
        )


class Rights:
    """The door for administration: whoever comes through the plain listener may do all."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    async def grant(self, rights: Iterable[Right]) -> None:
        """Add rights; they hold when this returns."""
        async with _admin(self._bootstrap) as admin:
            for right in (given := list(rights)):
                answer = await admin._send_to_controller(CreateAclsRequest(*right.numbers()))
                assert [code for code, _ in answer.creation_responses] == [0], answer
            for right in given:
                await _until_seen(admin, right, there=True)

    async def revoke(self, rights: Iterable[Right]) -> None:
        """Take rights away; they are gone when this returns."""
        async with _admin(self._bootstrap) as admin:
            for right in (taken := list(rights)):
                answer = await admin._send_to_controller(DeleteAclsRequest(*right.numbers()))
                ((code, message, matching),) = answer.filter_responses
                assert code == 0, message
                assert matching, f"there is no such right: {right}"
            for right in taken:
                await _until_seen(admin, right, there=False)


@asynccontextmanager
async def _admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def _until_seen(admin: AIOKafkaAdminClient, right: Right, *, there: bool) -> None:
    """The controller has it at once, the broker, which asks nobody else, a moment later."""
    end_s = time.monotonic() + SEEN_TIMEOUT_S
    while True:
        answer = await admin._send_request(DescribeAclsRequest(*right.numbers()))
        if bool(answer.resources) == there:
            return
        assert time.monotonic() < end_s, f"the broker does not learn of {right}"
        await asyncio.sleep(0.01)
