"""A write that breaks every connection ends up alone, after its neighbours; nothing else is ever given up."""

from __future__ import annotations

from embedmq_worker.groups import ALONE_ATTEMPTS, Groups
from hypothesis import given
from hypothesis import strategies as st


def write_all(count: int, bad: frozenset[int]) -> tuple[list[int], list[int], int]:
    """What is written, what is given up, and after how many attempts, where every group with a bad write breaks."""
    groups, written, hopeless, attempts = Groups(list(range(count))), list[int](), list[int](), 0
    while groups:
        group = groups.take()
        attempts += 1
        if not bad.intersection(group):
            written += group
            groups.answered()
        elif len(group) == 1 and groups.is_hopeless(group[0]):
            hopeless += group
        else:
            groups.broke(group)
    return written, hopeless, attempts


@given(st.integers(0, 200), st.frozensets(st.integers(0, 199), max_size=5))
def test_every_good_write_gets_through_and_every_bad_one_is_found(count: int, bad: frozenset[int]) -> None:
    """Whichever writes are bad, in bounded many attempts."""
    written, hopeless, attempts = write_all(count, bad)
    assert sorted(written) == [n for n in range(count) if n not in bad]
    assert sorted(hopeless) == [n for n in range(count) if n in bad]
    assert attempts <= 1 + len(hopeless) * (ALONE_ATTEMPTS + 4 * count.bit_length())


def test_without_trouble_all_goes_at_once() -> None:
    """The common path is one group."""
    assert write_all(500, frozenset()) == (list(range(500)), [], 1)


@given(st.integers(1, 64), st.integers(0, 63))
def test_the_neighbours_of_a_bad_write_do_not_wait_for_it_to_be_given_up(count: int, bad: int) -> None:
    """All of them are written while it has been tried alone at most twice."""
    groups, left, alone = Groups(list(range(count))), set(range(count)) - {bad}, 0
    while left:
        group = groups.take()
        if bad in group:
            alone += len(group) == 1
            groups.broke(group)
        else:
            left -= set(group)
            groups.answered()
    assert alone <= 2


def test_what_was_refused_for_now_is_tried_again_in_full_groups() -> None:
    """A server that is read-only or full says nothing about any one write."""
    groups = Groups(["a", "b", "c"])
    groups.put_back(groups.take())
    assert groups.take() == ["a", "b", "c"]
    assert not groups
