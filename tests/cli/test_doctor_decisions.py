"""What `embedmq doctor` makes of what it is told, without servers."""

from __future__ import annotations

import pytest
from aiokafka.structs import TopicPartition
from embedmq.cli.behind import late
from embedmq.cli.diagnosis_kafka import reach, topic_faults, version, writable
from embedmq.cli.diagnosis_redis import clock, role, stores
from embedmq.cli.diagnosis_redis import version as redis_version
from embedmq.cli.layout import copies_faults
from embedmq.cli.survey import Partition, Seen
from embedmq_schemas.check import Harmless, forbidden
from embedmq_schemas.names import Names
from embedmq_schemas.refusal import Refusal
from redis.exceptions import NoPermissionError, ResponseError

PLACE = TopicPartition("t", 0)


@pytest.mark.parametrize(
    ("ahead_s", "way_s", "ok"), [(0.0, 0.0, True), (0.9, 0.0, True), (-1.1, 0.0, False), (5.0, 0.1, False)]
)
def test_clocks_that_are_more_than_a_second_apart_are_bad(ahead_s: float, way_s: float, ok: bool) -> None:
    """In both directions."""
    assert clock([(100.0, 100.0 + way_s - ahead_s, 100.0 + 2 * way_s)]).ok is ok


def test_a_slow_answer_is_no_skew() -> None:
    """What the way may have taken is left out, and the quickest of several answers counts."""
    assert clock([(100.0, 104.0, 104.0)]).ok
    assert (
        clock([(100.0, 104.0, 104.0), (200.0, 200.0, 200.0)]).found == "0.000 s behind of Redis's, give or take 0.000 s"
    )
    assert clock(None).ok is None


@pytest.mark.parametrize(
    ("found", "ok"), [("6.2.7", True), ("7.0", True), ("8.2.1", True), ("6.0.16", False), ("", False)]
)
def test_redis_is_new_enough_from_6_2_on(found: str, ok: bool) -> None:
    """By what the server says."""
    assert redis_version(found).ok is ok


@pytest.mark.parametrize(("produce", "ok"), [(12, True), (9, True), (8, False), (0, False)])
def test_kafka_is_new_enough_from_2_8_on(produce: int, ok: bool) -> None:
    """By the newest version of Produce."""
    assert version({0: produce, 1: 4}).ok is ok


def test_a_cluster_a_sentinel_and_a_replica_are_no_primary() -> None:
    """By what the server says."""
    assert role({"mode": "standalone", "role": "master"}).ok
    for hello in ({"mode": "cluster"}, {"mode": "sentinel"}, {"mode": "standalone", "role": "replica"}):
        assert role(hello).ok is False


def test_a_redis_that_takes_no_writes_is_told() -> None:
    """Full, or without a disk for its snapshots; one that may not be asked is not judged."""
    good = {"maxmemory_policy": "noeviction", "used_memory": 10, "maxmemory": 0, "rdb_last_bgsave_status": "ok"}
    assert [check.ok for check in stores(good)] == [True, True]
    assert [check.ok for check in stores(good | {"maxmemory": 11})] == [True, False]
    assert [check.ok for check in stores(good | {"rdb_last_bgsave_status": "err"})] == [True, False]
    assert [check.ok for check in stores(None)] == [None, None]


def test_an_acl_is_read_from_what_redis_answers() -> None:
    """An error of another kind is of a command that was allowed."""
    tried = [Harmless(("GET", "a"), "p:*"), Harmless(("XADD", "a"), "p:*"), Harmless(("TTL", "a"), "p:*")]
    answers = [
        NoPermissionError("No permissions to access a key"),
        NoPermissionError("User u has no permissions to run the 'xadd' command"),
        ResponseError("wrong number of arguments"),
    ]
    assert forbidden(tried, answers) == ["~p:*", "+xadd"]


def test_one_address_that_answers_is_enough() -> None:
    """Of those that do not, each says why."""
    refusal = Refusal("nobody", "look", False)
    assert reach({"a:1": refusal, "b:1": None}).found == "b:1 lets us in"
    assert reach({"a:1": refusal, "b:1": refusal}) == reach({"a:1": refusal, "b:1": refusal})
    assert reach({"a:1": refusal, "b:1": refusal}).found == "a:1: nobody; b:1: nobody"
    assert reach({"a:1": refusal}).exit_code == 3


@pytest.mark.parametrize(
    ("committed", "young", "unread"),
    [(None, 5, 3), (5, 5, 0), (4, 5, 1), (1, None, 6), (9, None, 0)],
)
def test_old_and_unread_is_counted_from_the_commit_or_the_beginning(
    committed: int | None, young: int | None, unread: int
) -> None:
    """The partition has offsets 2 to 8."""
    found = late({} if committed is None else {PLACE: committed}, {PLACE: 2}, {PLACE: 8}, {PLACE: young})
    assert found == ({"t": unread} if unread else {})


@pytest.mark.parametrize(
    ("replicas", "in_sync", "led", "least", "told"),
    [
        (3, 3, True, 2, ""),
        (2, 2, True, 1, "2 of 3 copies"),
        (3, 3, True, 1, "min.insync.replicas=1"),
        (3, 1, True, 2, "1 of 3 copies in sync"),
        (3, 3, True, 4, "min.insync.replicas=4 of 3 copies"),
        (3, 3, False, 2, "no broker leads"),
    ],
)
def test_copies_and_those_that_must_be_in_sync_fit_each_other(
    replicas: int, in_sync: int, led: bool, least: int, told: str
) -> None:
    """On three brokers."""
    found = [fault.what for fault in copies_faults(replicas, in_sync, led, 3, least)]
    assert len(found) == bool(told)
    assert told in "".join(found)


def test_a_fault_of_many_topics_is_told_once() -> None:
    """A fleet has thousands; topics of others are not looked at."""
    topics = [Seen(f"p.m{n}.bulk", [Partition(0, 1, 1, 1)], 0) for n in range(9)]
    (check,) = topic_faults([*topics, Seen("theirs", [Partition(0, 1, 1, 1)], 0)], {}, Names("p"), 1)
    assert check.found.startswith("p.m0.bulk, p.m1.bulk, p.m2.bulk and 6 more: one partition")


def test_a_producer_is_told_where_it_may_not_write() -> None:
    """By name, for whom; what is not seen is not judged."""
    write, seen = 1 << 4, {name: Seen(name, [], 0) for name in ("p.a.bulk", "p.dead")}
    assert "shop lacks Write on topic p.a.bulk" in writable(seen, Names("p"), "shop").found
    assert writable({"p.a.bulk": Seen("p.a.bulk", [], write)}, Names("p"), None).ok
    assert writable({}, Names("p"), None).ok is None
