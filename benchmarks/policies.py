"""Which assignments does `make simulate` compare? The worker's own, and Kafka's round robin.

Both get what members say as Kafka would hand it to a leader, and answer with partitions by topic and member.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from embedmq_worker.assignor import Assignor

Members = Mapping[str, ConsumerProtocolMemberMetadata]
Assignments = Mapping[str, ConsumerProtocolMemberAssignment]
Policy = Callable[[ClusterMetadata, Members], Assignments]


class Cluster(ClusterMetadata):  # type: ignore[misc]  # aiokafka ships no types
    """Topics, each with so many partitions."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        super().__init__()
        self.counts = counts

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(self.counts[topic]))


def affinity(cluster: ClusterMetadata, members: Members) -> Assignments:
    """The worker's own, whoever leads."""
    return Assignor("leader").assign(cluster, members)


def round_robin(cluster: ClusterMetadata, members: Members) -> Assignments:
    """aiokafka's own; it looks every partition's topic up among the subscribed ones, which therefore are a set here."""
    sets = {name: ConsumerProtocolMemberMetadata(0, set(said.subscription), b"") for name, said in members.items()}
    found: Assignments = RoundRobinPartitionAssignor.assign(cluster, sets)
    return found


POLICIES: Final[Mapping[str, Policy]] = {"by model": affinity, "round robin": round_robin}


def owners(found: Assignments, topics: Sequence[str]) -> dict[str, dict[int, str]]:
    """Who has each partition of each topic."""
    owner: dict[str, dict[int, str]] = {topic: {} for topic in topics}
    for name, assignment in found.items():
        for topic, numbers in assignment.assignment:
            owner[topic].update(dict.fromkeys(numbers, name))
    return owner
