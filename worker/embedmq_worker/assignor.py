"""Which worker reads which partition? One decision for the whole group, taken by its leader."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

NAME = "embedmq"
"""A group can hold one assignor only, so the name is final; what it decides may change behind it."""

USER_DATA_VERSION = 1


class Assignor:
    """Spreads the partitions of each topic evenly over the members that subscribe to it.

    Members tell the leader who they are (`user_data`: a version byte, then MessagePack), so that a later version can
    keep partitions where their model is resident without a new name. aiokafka calls these four names and nothing
    else, so an instance serves where it documents a class.
    """

    name = NAME

    def __init__(self, worker_id: str) -> None:
        self._user_data = bytes([USER_DATA_VERSION]) + msgspec.msgpack.encode({"worker": worker_id})

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """What this member tells the leader."""
        return ConsumerProtocolMemberMetadata(0, sorted(topics), self._user_data)

    def assign(
        self, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Decide for all members; equal input gives an equal decision."""
        partitions = {
            topic: sorted(cluster.partitions_for_topic(topic) or ())
            for topic in {topic for member in members.values() for topic in member.subscription}
        }
        subscriptions = {member: set(metadata.subscription) for member, metadata in members.items()}
        return {
            member: ConsumerProtocolMemberAssignment(0, sorted(topics.items()), b"")
            for member, topics in spread(partitions, subscriptions).items()
        }

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Nothing is remembered between rebalances."""


def spread(
    partitions: Mapping[str, Iterable[int]], subscriptions: Mapping[str, set[str]]
) -> dict[str, dict[str, list[int]]]:
    """Give each partition to the member with the fewest so far among those that subscribe to its topic. Pure."""
    given: dict[str, dict[str, list[int]]] = {member: defaultdict(list) for member in sorted(subscriptions)}
    load = dict.fromkeys(given, 0)
    for topic in sorted(partitions):
        members = [member for member in given if topic in subscriptions[member]]
        for partition in partitions[topic] if members else ():
            chosen = min(members, key=lambda member: (len(given[member][topic]), load[member]))
            given[chosen][topic].append(partition)
            load[chosen] += 1
    return {member: dict(topics) for member, topics in given.items()}
