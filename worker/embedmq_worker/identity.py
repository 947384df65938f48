"""Whose request is this? Pure."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from embedmq_schemas.envelope import Record
from embedmq_schemas.headers import DLT_TOPIC, find, text
from embedmq_schemas.names import Names

from embedmq_worker.config import Tenant
from embedmq_worker.engine.seam import Fault


class Owners:
    """Knows which topics belong to a tenant: there, Kafka's ACLs prove who sent a request. Elsewhere a tenant is what
    the request says, which anybody can say who may write there; but nobody can pose as one who has topics.
    """

    def __init__(self, tenants: Mapping[str, Tenant], names: Names) -> None:
        self._names = names
        self._patterns = [(pattern, name) for name, tenant in tenants.items() for pattern in tenant.topics]
        self._proven = {name for _, name in self._patterns}
        self._owners: dict[str, str | None] = {}  # as many as there are topics

    def identify(self, record: Record, stated: str) -> str | Fault:
        """The tenant of a record which states one, or states none (empty). On a retry topic, which only workers write,
        counts where it was first.
        """
        if not self._patterns:
            return stated
        topic = record.topic
        if self._names.is_retry(topic):
            topic = text(find(record.headers), DLT_TOPIC) or topic
        owner = self._owner(topic)
        if owner is None and stated in self._proven:
            return Fault("malformed", f"tenant {stated[:64]!r} has topics of its own: send its requests there")
        if owner is not None and stated not in ("", owner):
            return Fault("malformed", f"`tenant` contradicts the topic {topic}, which belongs to {owner!r}")
        return stated if owner is None else owner

    def _owner(self, topic: str) -> str | None:
        if topic not in self._owners:
            matches = (name for pattern, name in self._patterns if fnmatchcase(topic, pattern))
            self._owners[topic] = next(matches, None)
        return self._owners[topic]
