"""A commit never passes a record whose outcome is not acknowledged."""

from __future__ import annotations

from embedmq_worker.progress import Progress
from hypothesis import given
from hypothesis import strategies as st

offsets = st.lists(st.integers(0, 10_000), min_size=1, max_size=40, unique=True).map(sorted)


@given(offsets, st.data())
def test_whatever_the_order_of_completion_a_commit_never_passes_an_open_record(
    read: list[int], data: st.DataObject
) -> None:
    """Offsets are sparse and completion comes in any order, between reads: what is committable is the first open record
    or, with none open, the one after the last that was read."""
    progress = Progress("t", 0)
    unread, open_, committed = list(read), set[int](), -1
    while unread or open_:
        if unread and (not open_ or data.draw(st.booleans())):
            offset = unread.pop(0)
            progress.start(offset)
            open_.add(offset)
        else:
            offset = data.draw(st.sampled_from(sorted(open_)))
            progress.complete(offset)
            open_.discard(offset)
        seen = [offset for offset in read if offset not in unread]
        expected = min(open_) if open_ else seen[-1] + 1
        found = progress.committable()
        assert progress.open >= len(open_)
        assert progress.reached == seen[-1] + 1
        if expected == committed:
            assert found is None, "nothing new, so nothing to send"
        else:
            assert found == expected
            if data.draw(st.booleans()):
                progress.committed(expected)
                committed = expected
    assert progress.open == 0


def test_nothing_read_is_nothing_to_commit() -> None:
    """The first commit of a fresh group is its own business."""
    progress = Progress("t", 0)
    assert progress.committable() is None
    assert progress.reached is None


def test_a_gap_is_not_waited_for() -> None:
    """Compaction and transactions leave gaps: offset 5 is followed by 9 here."""
    progress = Progress("t", 0)
    for offset in (5, 9):
        progress.start(offset)
    progress.complete(5)
    assert progress.committable() == 9
    progress.complete(9)
    assert progress.committable() == 10


def test_a_revoked_partition_commits_nothing() -> None:
    """Its next owner reads from the last commit."""
    progress = Progress("t", 0)
    progress.start(1)
    progress.revoked = True
    progress.complete(1)
    assert progress.committable() is None
