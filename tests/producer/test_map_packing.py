"""Which items share a record, and which record comes out next: decided without a clock, a loop or a network."""

from __future__ import annotations

from collections import deque

import embedmq
import pytest
from embedmq.cutting import cut
from embedmq.packing import RECORD_BYTES, Packed, Packer, record_items
from embedmq.window import PARTIAL_RECORDS, Slot, Window
from hypothesis import given
from hypothesis import strategies as st

HEAD = 5


@given(
    st.lists(st.integers(0, 90) | st.none(), max_size=60), st.integers(1, 9), st.integers(HEAD + 1, 200), st.booleans()
)
def test_records_are_cut_as_a_whole_call_would_be(
    sizes: list[int | None], max_items: int, space: int, close_between: bool
) -> None:
    """Every item is in one record, in order, within both bounds; what can be no item is named and stands in the way of
    nothing. Records are numbered, and know the number of their first item.
    """
    packer = Packer(max_items, space)
    found: list[Packed] = []
    good = [n for n, size in enumerate(sizes) if size is not None and size + HEAD <= space]
    for n, size in enumerate(sizes):
        if n in good:
            found += packer.add("x" * (size or 0))
            continue
        with pytest.raises(embedmq.InvalidRequest, match=rf"items\[{n}\]") as refused:
            packer.add(7 if size is None else "x" * size)
        assert refused.value.index == n
        if close_between and packer.gathered:
            found.append(packer.close())
    found += [packer.close()] if packer.gathered else []

    assert [item for packed in found for item in packed.items] == ["x" * (sizes[n] or 0) for n in good]
    assert [packed.number for packed in found] == list(range(len(found)))
    assert all(len(packed.items[0]) == sizes[packed.first] for packed in found)
    if not close_between:
        parts = cut([(sizes[n] or 0) + HEAD for n in good], max_items, space)
        assert [len(packed.items) for packed in found] == [len(part) for part in parts]


def test_what_items_take_is_what_the_wire_has() -> None:
    """Texts beyond ASCII count by their bytes, token ids and item ids too; one large item fills a record alone."""
    assert [len(packed.items) for packed in Packer(9, 40).add("é" * 17)] == []
    with pytest.raises(embedmq.InvalidRequest, match=r"items\[0\]: 41 bytes; one request holds 40"):
        Packer(9, 40).add("é" * 18)
    with pytest.raises(embedmq.InvalidRequest, match=r"items\[0\] \(doc\): "):
        Packer(9, 40).add(("doc", [70_000] * 7))
    packer = Packer(1_000, 10 * RECORD_BYTES)
    assert not packer.add("x" * RECORD_BYTES)  # one item alone may have more
    assert [len(packed.items) for packed in packer.add("y")] == [1]


def test_items_with_an_id_and_items_without_do_not_share_a_record() -> None:
    """A record has an id for each of its items, or for none."""
    packer = Packer(10, 100)
    found = [packed for entry in ("a", ("i", "b"), ["j", [7]], "c") for packed in packer.add(entry)]
    found.append(packer.close())

    assert [packed.item_ids for packed in found] == [None, ["i", "j"], None]
    assert [packed.items for packed in found] == [["a"], ["b", [7]], ["c"]]
    assert [packed.place(0) for packed in found] == ["items[0]", "items[1] (i)", "items[3]"]


@given(st.integers(1, 40), st.booleans(), st.lists(st.integers(0, 5), max_size=300))
def test_a_window_is_never_overfull_nor_stuck_and_keeps_the_order(
    max_items: int, ordered: bool, steps: list[int]
) -> None:
    """Whatever the source, the workers and the consumer do in turn: at most `max_items` are taken and not used up, and
    everything comes out, in its order or in that of the answers.
    """
    window: Window[int] = Window(max_items, record_items(max_items), ordered=ordered)
    under_way: list[Slot[int]] = []
    gathered = taken = used = 0
    sent: list[int] = []
    answered: list[int] = []
    out: list[int] = []
    in_hand: deque[int] = deque()

    def send() -> None:
        nonlocal gathered
        under_way.append(window.send(Packed(len(sent), taken - gathered, ["x"] * gathered, None)))
        sent.append(len(sent))
        gathered = 0

    def step(choice: int) -> None:
        nonlocal gathered, taken, used
        if choice <= 1 and window.may_take(gathered):
            window.take()
            taken, gathered = taken + 1, gathered + 1
            if gathered == record_items(max_items):
                send()
        elif choice == 2 and gathered and window.may_send_partial():
            send()
        elif choice in {3, 4} and under_way:
            slot = under_way.pop(len(under_way) // 2 if choice == 3 else 0)
            answered.append(slot.packed.number)
            window.end(slot, slot.packed.number)
        elif choice == 5:
            slot_out = window.next()
            if in_hand:
                count = in_hand.popleft()
                used += count
                window.give_back(count)
            if slot_out is not None:
                in_hand.append(len(slot_out.packed.items))
                out.append(slot_out.packed.number)
        assert taken - used <= max_items

    for choice in steps:
        step(choice)
    assert not window.may_send_partial() or len(under_way) < PARTIAL_RECORDS
    for _ in range(3 * len(sent) + 3 * max_items):  # with everybody willing, it drains
        for choice in (2, 4, 5):
            step(choice)
    assert window.idle
    assert out == (sent if ordered else answered)
    assert window.may_take(0)


@pytest.mark.parametrize(("max_in_flight", "items"), [(1, 1), (15, 1), (16, 2), (1_024, 128), (10**6, 128)])
def test_a_window_is_made_of_several_records(max_in_flight: int, items: int) -> None:
    """So that some are computed while others travel."""
    assert record_items(max_in_flight) == items


@pytest.mark.parametrize("bound", [0, -1, 1.5, True, None])
def test_a_bound_is_a_number_of_items(bound: object) -> None:
    """Anything else is refused by name."""
    with pytest.raises(embedmq.InvalidRequest, match=r"max_in_flight: .* 1 or more"):
        record_items(bound)  # type: ignore[arg-type]  # that is the point
