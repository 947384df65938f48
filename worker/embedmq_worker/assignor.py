"""How does Kafka's group protocol come by our decision? The leader asks here; `affinity` decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

from embedmq_worker.affinity import Member, decide
from embedmq_worker.standing import Look, Standing, Told, decode, encode

NAME = "embedmq"
"""A group can hold one assignor only, so the name is final; what it decides may change behind it."""

ROUND_BYTES = 8


class Assignor:
    """Keeps the partitions of a model with the workers that have it in memory.

    Members tell the leader who they are, what they hold and what they see (`user_data`, `standing`); members of another
    version take part with what can be read. The leader numbers its decisions: of two who claim a partition, the one of
    the later round held it last. aiokafka calls these four names and nothing else, so an instance serves where it
    documents a class. `assign` runs on the leader's event loop.
    """

    name = NAME

    def __init__(self, worker_id: str, look: Look = Standing) -> None:
        """`look` is asked at each join what this worker is, and has in memory."""
        self._worker_id = worker_id
        self._look = look
        self._owned: dict[str, list[int]] = {}
        self._round = 0

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """What this member tells the leader."""
        wanted = sorted(topics)
        told = Told(worker=self._worker_id, standing=self._look(), owned=self._owned, round=self._round)
        return ConsumerProtocolMemberMetadata(0, wanted, encode(told, wanted))

    def assign(
        self, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Decide for all members; equal input gives an equal decision."""
        same: dict[str, frozenset[str]] = {}
        known: dict[str, Member] = {}
        for name, metadata in members.items():
            wanted = metadata.subscription
            topics = same.setdefault("\n".join(wanted), frozenset(wanted))
            known[name] = Member(topics, decode(metadata.user_data or b"", wanted))
        partitions = {
            topic: sorted(cluster.partitions_for_topic(topic) or ()) for topic in frozenset().union(*same.values())
        }
        turn = max((member.told.round for member in known.values()), default=0) + 1
        return {
            name: ConsumerProtocolMemberAssignment(0, sorted(topics.items()), turn.to_bytes(ROUND_BYTES))
            for name, topics in decide(partitions, known).items()
        }

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Remember what is held, and since which round; a leader of an older version counts none."""
        self._owned = {topic: list(numbers) for topic, numbers in assignment.assignment}
        counted = assignment.user_data or b""
        self._round = int.from_bytes(counted) if len(counted) == ROUND_BYTES else 0
