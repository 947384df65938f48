"""A commit never passes a record whose outcome is not acknowledged, and no record is taken for one that it is not."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from aiokafka import TopicPartition
from embedmq_schemas.envelope import Record
from embedmq_worker.partitions import Partitions
from embedmq_worker.past import KEPT_S, Fate
from embedmq_worker.progress import MAX_AHEAD, Progress
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

HERE = TopicPartition("t", 0)


@dataclass(frozen=True)
class Found:
    """A record as Kafka has it; two that are equal are the same record."""

    offset: int
    timestamp: int = 0
    value: bytes | None = b""

    @property
    def ours(self) -> Record:
        return Record(HERE.topic, HERE.partition, self.offset, self.timestamp, None, self.value, [])


@dataclass
class Flight:
    """A record on its way to its outcome. `remembered`: as far as anybody can know, its log is still the log."""

    progress: Progress
    record: Found
    remembered: bool = True


class OnePartition(RuleBasedStateMachine):
    """One partition of one worker beside a naive model, which knows the whole log and who completed what.

    `delivered` is what has an outcome, by whomever; `known` what this process completed above its commit since the log
    was last read anew, and so must not compute again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1_000.0
        self.fates: list[Fate] = []
        self.partitions = Partitions(lambda: self.now_s, self.fates.append)
        self.log: list[Found] = []
        self.end = 0
        self.times = 0
        self.text = b""
        self.stale = False
        self.group_commit = 0
        self.position = 0
        self.revoked_s = self.now_s
        self.flights: list[Flight] = []
        self.delivered: set[Found] = set()
        self.known: set[Found] = set()

    @property
    def progress(self) -> Progress | None:
        return self.partitions.ours.get(HERE)

    def unread(self) -> list[Found]:
        return [record for record in self.log if record.offset >= self.position]

    @initialize()
    def first(self) -> None:
        self.partitions.assign([HERE])
        self.produce([0, 1, 0, 2, 0], b"a")

    @rule(gaps=st.lists(st.integers(0, 2), min_size=1, max_size=6), text=st.sampled_from([b"a", b"b"]))
    def produce(self, gaps: list[int], text: bytes) -> None:
        """Offsets have gaps: compaction and transactions leave them."""
        for gap in gaps:
            self.log.append(Found(self.end + gap, self.times + self.end, self.text + text))
            self.end += gap + 1

    @precondition(lambda self: self.progress and self.unread())
    @rule(count=st.integers(1, 6))
    def read(self, count: int) -> None:
        assert self.progress is not None
        for record in self.unread()[:count]:
            self.position, self.stale = record.offset + 1, False
            if self.progress.start(record):
                assert record not in self.known, "computed again although this process completed it"
                self.flights.append(Flight(self.progress, record))
            else:
                assert record in self.delivered, "a new record was skipped"
                assert self.fates[-1] == "skipped"

    @precondition(lambda self: self.flights)
    @rule(data=st.data(), count=st.integers(1, 6))
    def complete_some(self, data: st.DataObject, count: int) -> None:
        """In any order, and also for an assignment that has ended."""
        for flight in data.draw(st.permutations(self.flights))[:count]:
            self.complete(flight)

    def complete(self, flight: Flight) -> None:
        self.flights.remove(flight)
        flight.progress.complete(flight.record.ours)
        self.delivered.add(flight.record)
        if flight.remembered:
            self.known.add(flight.record)
        else:
            self.known.clear()  # it may have told of another log

    @precondition(lambda self: self.progress and self.progress.committable() is not None and not self.stale)
    @rule(acknowledged=st.booleans())
    def commit(self, acknowledged: bool) -> None:
        assert self.progress is not None
        offset = self.progress.committable()
        assert offset is not None
        self.check(offset)
        self.group_commit = offset
        if acknowledged:
            self.progress.committed(offset)
            self.known = {record for record in self.known if record.offset >= offset}

    @precondition(lambda self: self.progress)
    @rule(data=st.data(), committed=st.booleans())
    def revoke(self, data: st.DataObject, committed: bool) -> None:
        """What is queued is dropped; what is on the device goes on."""
        progress = self.progress
        assert progress is not None
        offset = progress.committable()
        self.partitions.revoke()
        assert progress.committable() is None
        if committed and offset is not None and not self.stale:
            self.check(offset)
            progress.committed(offset)
            self.group_commit = offset
            self.known = {record for record in self.known if record.offset >= offset}
        self.revoked_s = self.now_s
        self.flights = [flight for flight in self.flights if data.draw(st.booleans())]

    @precondition(lambda self: not self.progress)
    @rule(count=st.integers(1, 6))
    def assign(self, count: int) -> None:
        if self.now_s - self.revoked_s >= KEPT_S:
            self.lose_track()
        self.partitions.assign([HERE])
        self.position, self.stale = self.group_commit, False
        if self.unread():
            self.read(count)

    @precondition(lambda self: not self.progress and self.log)
    @rule(data=st.data())
    def another_worker_commits(self, data: st.DataObject) -> None:
        """It had the partition meanwhile."""
        mine = [record for record in self.log if record.offset >= self.group_commit]
        done = mine[: data.draw(st.integers(0, len(mine)))]
        self.delivered.update(done)
        if done:
            self.group_commit = done[-1].offset + 1

    @precondition(lambda self: not self.progress)
    @rule(data=st.data())
    def reset_by_an_operator(self, data: st.DataObject) -> None:
        self.group_commit = data.draw(st.integers(0, self.group_commit))
        self.lose_track()

    @rule(same_times=st.booleans(), count=st.integers(0, 6))
    def recreate_the_topic(self, same_times: bool, count: int) -> None:
        """Deleted and created again, its offsets begin anew, and its records differ in their times or in their values.

        Until a record of the new log is read, a worker that has the partition commits places in the old one.
        """
        if same_times:
            self.text += b"anew "
        else:
            self.times += 1_000
        self.delivered = set()
        self.log, self.end, self.group_commit, self.position = [], 0, 0, 0
        self.stale = self.progress is not None
        self.lose_track()
        self.produce([0] * 6, b"a")
        if self.progress and count:
            self.read(count)

    @precondition(lambda self: self.progress and self.position)
    @rule(data=st.data())
    def rewind(self, data: st.DataObject) -> None:
        """Records that were read are handed out again in the same assignment."""
        self.position = data.draw(st.integers(0, self.position))
        self.lose_track()

    @rule(seconds=st.sampled_from([1.0, KEPT_S - 1, KEPT_S]))
    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        if not self.progress and self.now_s - self.revoked_s >= KEPT_S:
            self.lose_track()
        self.partitions.forget()

    def lose_track(self) -> None:
        self.known.clear()
        for flight in self.flights:
            flight.remembered = False

    def check(self, offset: int) -> None:
        passed = [record for record in self.log if record.offset < offset]
        assert self.delivered.issuperset(passed), f"a commit of {offset} passes an incomplete record"

    @invariant()
    def nothing_incomplete_is_passed(self) -> None:
        if self.progress and not self.stale and (offset := self.progress.committable()) is not None:
            self.check(offset)

    def teardown(self) -> None:
        """Nothing stalls: when all is read and completed, all can be committed."""
        if not self.progress or self.stale:
            return
        progress = self.progress
        while self.unread():
            self.read(6)
        for flight in list(self.flights):
            self.complete(flight)
        assert progress.open == 0
        if (offset := progress.committable()) is not None:
            assert offset == progress.reached
            self.check(offset)
            progress.committed(offset)
            self.group_commit = offset
        assert progress.committable() is None
        assert progress.reached in (None, self.group_commit)


TestOnePartition = OnePartition.TestCase
"""Reads, completions in any order, commits that get through or not, rebalances with and without another worker's
commits in between, rewinds, topics made anew, and a clock."""
TestOnePartition.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)


def start(progress: Progress, *records: Found) -> list[bool]:
    return [progress.start(record) for record in records]


def assign_again(partitions: Partitions) -> Progress:
    partitions.assign([HERE])
    return partitions.ours[HERE]


def test_nothing_read_is_nothing_to_commit() -> None:
    """The first commit of a fresh group is its own business."""
    progress = Progress("t", 0)
    assert progress.committable() is None
    assert progress.reached is None


def test_a_gap_is_not_waited_for() -> None:
    """Compaction and transactions leave gaps: offset 5 is followed by 9 here."""
    progress, five, nine = Progress("t", 0), Found(5), Found(9)
    start(progress, five, nine)
    progress.complete(five.ours)
    assert progress.committable() == 9
    progress.complete(nine.ours)
    assert progress.committable() == progress.reached == 10


def test_what_was_complete_at_a_rebalance_is_skipped_and_what_was_begun_is_counted() -> None:
    """Both come again from the commit on, in the next assignment."""
    fates: list[Fate] = []
    partitions = Partitions(lambda: 0.0, fates.append)
    first, one, two, three = assign_again(partitions), Found(1), Found(2), Found(3)
    start(first, one, two)
    first.complete(two.ours)
    assert start(assign_again(partitions), one, two, three) == [True, False, True]
    assert fates == ["again", "skipped"]


def test_a_null_value_is_a_value() -> None:
    """It hashes as well as any other."""
    partitions = Partitions(lambda: 0.0, lambda _: None)
    first, null = assign_again(partitions), Found(1, value=None)
    start(first, null)
    first.complete(null.ours)
    assert start(assign_again(partitions), null) == [False]


def test_a_batch_that_outlives_its_assignment_completes_the_same_record_of_the_next_one() -> None:
    """It was read again meanwhile; the second outcome, if there will be one, changes nothing."""
    partitions = Partitions(lambda: 0.0, lambda _: None)
    first, record = assign_again(partitions), Found(1)
    start(first, record)
    second = assign_again(partitions)
    assert start(second, record) == [True]
    first.complete(record.ours)
    assert (second.open, second.committable()) == (0, 2)
    second.complete(record.ours)
    assert (second.open, second.committable()) == (0, 2)


@pytest.mark.parametrize("rebalanced", [False, True])
@pytest.mark.parametrize("new", [Found(1, value=b"new"), Found(1, timestamp=1)])
def test_another_record_at_its_place_is_not_completed(new: Found, rebalanced: bool) -> None:
    """The topic was deleted and created again, between two assignments or within one."""
    partitions = Partitions(lambda: 0.0, lambda _: None)
    first, old = assign_again(partitions), Found(1)
    start(first, old)
    progress = assign_again(partitions) if rebalanced else first
    assert start(progress, new) == [True]
    first.complete(old.ours)
    assert (progress.open, progress.committable()) == (1, 1)
    progress.complete(new.ours)
    assert (progress.open, progress.committable()) == (0, 2)


def test_a_log_made_anew_is_committed_anew_also_up_to_the_same_offset() -> None:
    """Kafka forgot the old commit together with the old topic."""
    progress = Progress("t", 0)
    for record in (Found(1), Found(1, value=b"new")):
        start(progress, record)
        progress.complete(record.ours)
        assert progress.committable() == 2
        progress.committed(2)
        assert progress.committable() is None


def test_what_was_complete_of_a_log_made_anew_is_skipped_too() -> None:
    """Its offsets are lower than what was committed of the old one."""
    partitions = Partitions(lambda: 0.0, lambda _: None)
    old, nine, one, two = assign_again(partitions), Found(9), Found(1), Found(2)
    start(old, nine)
    old.complete(nine.ours)
    old.committed(10)
    first = assign_again(partitions)
    start(first, one, two)
    first.complete(two.ours)
    assert start(assign_again(partitions), one, two) == [True, False]


def test_too_many_complete_above_the_commit_hold_the_partition_until_they_are_committed() -> None:
    """One record that takes for ever must not fill the memory with those behind it."""
    progress = Progress("t", 0)
    head, *others = (Found(offset) for offset in range(MAX_AHEAD + 1))
    start(progress, head, *others)
    for record in others[:-1]:
        progress.complete(record.ours)
    assert not progress.held
    progress.complete(others[-1].ours)
    assert progress.held
    progress.complete(head.ours)
    progress.committed(MAX_AHEAD + 1)
    assert not progress.held


def test_a_partition_is_held_while_there_is_any_reason() -> None:
    """Reasons come and go by themselves."""
    progress = Progress("t", 0)
    progress.hold("model")
    progress.hold("due")
    progress.release("model")
    assert progress.held
    progress.release("due")
    assert not progress.held


def test_a_deferred_record_is_due_when_the_wait_is_over_and_no_other_is() -> None:
    """No clock on the wall is asked again."""
    progress = Progress("t", 0)
    progress.defer(7)
    assert progress.held
    assert not progress.is_due(7)
    progress.release("due")
    assert progress.is_due(7)
    assert not progress.is_due(8)
