"""Both sides of a comparison do the same work, each as well as it can."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from embedmq_worker.choose import Budget
from embedmq_worker.engine.seam import Ask, Options, Prepared
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import docstrings, plain, work
from benchmarks.arithmetic import Shape
from benchmarks.child import child
from benchmarks.fill import fill
from benchmarks.plain import Setting
from benchmarks.work import Work


def asked(counts: list[list[int]]) -> list[tuple[Ask, Prepared]]:
    """Requests whose items have these many tokens."""
    return [(Ask(["x"] * len(each), Options()), Prepared(each, None, [], {})) for each in counts]


def started() -> Callable[[int], int]:
    return divide


def divide(number: int) -> int:
    return 84 // number


def test_the_sweep_takes_the_fastest_setting_and_warms_each_one_up() -> None:
    """What was slow only the first time is not held against it."""
    cost_s = {Setting(8): 3.0, Setting(32): 1.0, Setting(32, "bfloat16"): 2.0}
    seen: list[Setting] = []

    def seconds(asked: Work[Setting]) -> float:
        first = asked.setting not in seen
        seen.append(asked.setting)
        return 100.0 if first else cost_s[asked.setting]

    assert plain.fastest(seconds, work.singly(["text"] * 20), list(cost_s)) == Setting(32)
    assert len(seen) == 6


def test_settings_are_all_combinations_and_flash_attention_only_where_it_is() -> None:
    """On a CPU six."""
    assert len(plain.ON_CPU) == 6
    assert {each.attention for each in plain.ON_CPU} == {"sdpa"}
    assert len(plain.settings(("bfloat16", "float16"), (32, 128), flash=True)) == 8


@given(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=5)), st.integers(1, 60), st.integers(1, 6))
def test_batches_hold_every_item_once_in_order_and_never_more_than_the_budget(
    counts: list[list[int]], tokens: int, items: int
) -> None:
    """Except for one item that alone is larger."""
    given_ = asked(counts)
    batches = list(fill(given_, Budget(tokens, items)))
    cut = [(id(part.prepared), index) for batch in batches for part in batch for index in range(part.start, part.stop)]
    assert cut == [(id(each), index) for _, each in given_ for index in range(len(each.tokens))]
    for batch in batches:
        held = [count for part in batch for count in part.prepared.tokens[part.start : part.stop]]
        assert 1 <= len(held) <= items
        assert sum(held) <= tokens or len(held) == 1


def test_all_ways_to_ask_ask_for_the_same_texts() -> None:
    """Singly, in groups or call by call; pairs repeat the query."""
    texts = [f"text {n}" for n in range(10)]
    for calls in (work.singly(texts), work.grouped(texts, 4), work.one_by_one(texts, 4)):
        assert [text for call in calls for text in work.texts(call)] == texts
        assert work.count(calls) == 10
    assert [len(call) for call in work.one_by_one(texts, 4)] == [1, 1, 1]
    (call,) = work.reranked(["q", "r"], ["a", "b", "c"], 2)
    assert work.pairs(call) == [("q", "a"), ("q", "b"), ("r", "c"), ("r", "a")]


def test_the_texts_are_the_same_every_time_and_as_many_as_asked_for() -> None:
    """Long ones have about as many characters as 512 tokens."""
    assert docstrings.choose(50) == docstrings.choose(50)
    assert len(docstrings.choose(9_000)) == 9_000
    assert max(map(len, docstrings.short(50))) <= docstrings.SHORT_CHARACTERS
    lengths = [len(text) for text in docstrings.long(20)]
    assert min(lengths) > 0.9 * docstrings.LONG_CHARACTERS
    assert max(lengths) <= docstrings.LONG_CHARACTERS


def test_arithmetic_is_two_for_each_weight_and_token_and_four_for_each_pair() -> None:
    """By hand: one layer of width 2, inner width 3, on sequences of 4 and 5 tokens."""
    shape = Shape(hidden=2, inner=3, layers=1, heads=1)
    assert shape.flop([4, 5]) == 2 * (4 * 4 + 2 * 6) * 9 + 4 * 2 * (16 + 25)


def test_a_side_in_a_process_of_its_own_answers_and_its_end_is_noticed() -> None:
    """Nobody waits for a process that has ended."""
    with child(started) as other:
        assert other(2) == 42
        with pytest.raises(RuntimeError, match="has ended"):
            other(0)
