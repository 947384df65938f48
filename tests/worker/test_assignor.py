"""Partitions are spread evenly over those who can serve them, and equal input gives an equal decision."""

from __future__ import annotations

from collections import Counter

from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from embedmq_worker.assignor import NAME, Assignor, spread
from hypothesis import given
from hypothesis import strategies as st

topics = st.sampled_from(["a", "b", "c", "d"])
groups = st.tuples(
    st.dictionaries(topics, st.integers(0, 9).map(range)),
    st.dictionaries(st.text("mnop", min_size=1, max_size=3), st.sets(topics), max_size=6),
)


@given(groups)
def test_every_partition_goes_to_one_member_that_reads_its_topic(
    group: tuple[dict[str, range], dict[str, set[str]]],
) -> None:
    """None twice, none to nobody, whatever the members' subscriptions."""
    partitions, subscriptions = group
    given_ = spread(partitions, subscriptions)
    assert set(given_) == set(subscriptions)
    for topic, wanted in partitions.items():
        owners = Counter(p for topics in given_.values() for p in topics.get(topic, []))
        readers = [member for member, read in subscriptions.items() if topic in read]
        assert owners == (Counter(wanted) if readers else Counter())
        shares = [len(given_[member].get(topic, [])) for member in readers]
        assert not shares or max(shares) - min(shares) <= 1, "balanced by topic"
    for member, topics_ in given_.items():
        assert set(topics_) <= subscriptions[member]


@given(groups, st.randoms())
def test_the_decision_does_not_depend_on_the_order_of_members(
    group: tuple[dict[str, range], dict[str, set[str]]],
    random: st.random.Random,  # type: ignore[name-defined]  # hypothesis's own
) -> None:
    """Any leader decides alike."""
    partitions, subscriptions = group
    shuffled = list(subscriptions.items())
    random.shuffle(shuffled)
    assert spread(partitions, subscriptions) == spread(dict(reversed(partitions.items())), dict(shuffled))


def test_what_is_left_over_goes_to_who_has_least() -> None:
    """Many topics of one partition do not pile up on the first member."""
    found = spread({f"t{n}": [0] for n in range(9)}, {m: {f"t{n}" for n in range(9)} for m in "xyz"})
    assert [sum(map(len, topics.values())) for topics in found.values()] == [3, 3, 3]


class Cluster:
    """What aiokafka knows of topics."""

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return {"a": {0, 1, 2}, "b": {0}}.get(topic)


def test_the_assignor_speaks_kafkas_protocol_and_tells_who_it_is() -> None:
    """Its name is final; what a member says has a version, so that later decisions can know more. A topic that is not
    there yet is given to nobody."""
    assert (NAME, Assignor("w").name) == ("embedmq", "embedmq")
    one, two = Assignor("w1").metadata({"b", "a"}), Assignor("w2").metadata(["a", "missing"])
    assert one.subscription == ["a", "b"]
    assert one.user_data[:1] == b"\x01"
    assert one.user_data != two.user_data
    again = ConsumerProtocolMemberMetadata.decode(one.encode())
    found = Assignor("w1").assign(Cluster(), {"m1": again, "m2": two})
    assert {m: dict(a.assignment) for m, a in found.items()} == {"m1": {"a": [0, 2], "b": [0]}, "m2": {"a": [1]}}
