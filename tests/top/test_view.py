"""What a whole fleet is shown to be, of what each worker says of itself."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from embedmq.top.columns import MODELS, WORKERS, Column, Row, cells, heads, matching, order, state, widths
from embedmq.top.lines import detail, page, sums, title
from embedmq.top.orders import ASKED, TOLD, pin_or_not, question
from embedmq.top.view import ModelRow, WorkerRow, look
from embedmq.top.words import age, clip, count, share
from embedmq_schemas.catalogue import ModelStatus, WorkerStatus, decode_worker
from embedmq_schemas.requests import LANES
from hypothesis import given
from hypothesis import strategies as st

from tests.top.fleets import NOW_UNIX_MS, busy_fleet, waits, worker


def test_what_waits_is_the_sum_over_workers_and_the_age_that_of_the_oldest() -> None:
    """By lane and model, and for the fleet."""
    view = busy_fleet()
    minilm = view.models[0]
    assert minilm.model == "minilm"  # most waits for it
    assert minilm.lag["bulk"] == waits(2_400_000, 680_000_000, 7_300)
    assert minilm.lag["interactive"] == waits(24, 6_800, 1.5)
    assert minilm.waits == waits(2_400_024, 680_006_800, 7_300)
    assert view.fleet.lag == waits(2_400_033, 680_007_700, 7_300)
    assert (minilm.items_per_s, minilm.tokens_per_s) == (8_401.0, 246_912)


def test_the_fill_of_a_fleet_is_weighted_by_tokens() -> None:
    """A worker that computes ten times as much counts ten times; one without batches not at all."""
    full = ModelStatus(state="resident", tokens_per_s=1000, batch_fill=1.0)
    empty = ModelStatus(state="resident", tokens_per_s=100, batch_fill=0.1)
    none = ModelStatus(state="resident")
    (row,) = look("p", [worker("a", m=full), worker("b", m=empty), worker("c", m=none)], 0).models
    assert row.batch_fill == pytest.approx(0.918, abs=1e-3)
    still = ModelStatus(state="resident", batch_fill=0.5)
    assert look("p", [worker("a", m=still)], 0).models[0].batch_fill == 0.5
    assert look("p", [worker("a", m=none)], 0).models[0].batch_fill is None


def test_states_are_counted_and_what_is_wrong_is_said_first() -> None:
    """In words where there is room."""
    rows = {row.model: row for row in busy_fleet().models}
    assert state(rows["minilm"], True) == "2 resident, pinned"
    assert state(rows["minilm"], False) == "2 res pin"
    assert state(rows["broken"], True) == "paused, 1 failing"
    assert state(rows["tail"], False) == "2 res 1 abs"
    assert state(rows["multilingual-e5-large-instruct"], True) == "1 loading, 1 resident"
    assert state(ModelRow(model="m", states={"dozing": 3, "unserved": 1}, thrashing=1), False) == "thrash 1 off 3 dozi"


def test_a_model_that_no_worker_serves_any_more_is_off() -> None:
    """It was unloaded by an order: it is not merely absent."""
    (row,) = look("p", [worker("a", m=ModelStatus(state="absent", served=False))], 0).models
    assert row.states == {"unserved": 1}
    shown: dict[str, int] = widths(MODELS, 200)
    line = dict(zip(shown, cells(row, MODELS, shown, full=True), strict=True))
    assert {line[f"{lane}.{what}"].strip() for lane in LANES for what in ("records", "tokens", "age")} == {"-"}, (
        "what waits for it is read by nobody, so nobody can say that nothing does"
    )


def test_an_order_that_was_refused_is_shown_though_no_worker_has_the_model() -> None:
    """Or nobody would learn of it."""
    view = busy_fleet()
    (ghost,) = [row for row in view.models if row.model == "ghost"]
    assert ghost.refused == {"0000deadbeef": "not on its list"}
    assert detail(ghost) == ("ghost · no worker has it", "", "0000deadbeef refused: not on its list")
    assert {row.id: len(row.refused) for row in view.workers} == {
        "3f2a9c01d4e5": 0,
        "9b7711aa02ff": 0,
        "0000deadbeef": 1,
    }


def test_a_worker_of_an_earlier_or_a_later_version_does_no_harm() -> None:
    """What it does not say is taken for nothing, and the head says that it is missing."""
    old = decode_worker(b'{"id": "old", "models": {"m": {"state": "resident"}}}')
    new = decode_worker(b'{"id": "new", "version": "9", "dreams": 1, "models": {"m": {"state": "dozing", "x": {}}}}')
    view = look("p", [old, new, worker("now")], NOW_UNIX_MS)
    assert view.fleet.silent_workers == 1
    assert view.fleet.versions == ["0.1.0", "9"]
    assert "1 too old to say more" in title(view)
    assert "2 versions" in title(view)
    assert view.models[0].states == {"dozing": 1, "resident": 1}
    assert any(" - " in line and "old" in line for line in page(view, 80))


def test_nobody_there_is_a_view_too() -> None:
    """As before the first worker starts."""
    view = look("p", [], NOW_UNIX_MS)
    assert sums(view.fleet) == "0 texts/s · 0 tokens/s · lag 0 tokens (0 requests), 0s · 0 failed/s"
    assert re.fullmatch(r"EmbedMQ p · 0 workers · 0 models · \d\d:\d\d:\d\d", title(view))
    assert [line.split()[0] for line in page(view, 80) if line] == ["EmbedMQ", "0", "MODEL", "WORKER"]


@pytest.mark.parametrize("room", [79, 80, 119, 120, 200, 400])
def test_a_line_is_never_wider_than_its_terminal(room: int) -> None:
    """And columns stand beneath their heads; at 120 all of them are there."""
    view = busy_fleet()
    tables = (table(view.models, MODELS, room), table(view.workers, WORKERS, room))
    for widths_, lines, number in tables:
        for line in lines:
            assert [len(cell) for cell in line] == widths_
            assert len(" ".join(line)) <= room
        if room >= 120:
            assert len(widths_) == number
    assert all(len(line) <= room for line in page(view, room))


def test_in_80_columns_every_head_and_every_number_is_whole() -> None:
    """What is cut off would have a mark: only a long name has."""
    view = busy_fleet()
    for _, lines, _ in (table(view.models, MODELS, 79), table(view.workers, WORKERS, 79)):
        assert {cell.strip() for line in lines for cell in line if "…" in cell} <= {"multilingua…", "gpu-hos…"}


def table(rows: Sequence[Row], columns: Sequence[Column[Row]], room: int) -> tuple[list[int], list[list[str]], int]:
    """The widths of the columns that are shown, the cells of all lines, and how many columns there could be."""
    shown: dict[str, int] = widths(columns, room)
    lines = [heads(columns, shown), *(cells(row, columns, shown, room >= 120) for row in rows)]
    return list(shown.values()), lines, len(columns)


def test_sorting_is_by_any_column_from_the_largest_or_turned_round() -> None:
    """Texts from A; equal ones stay in their order."""
    rows = busy_fleet().models
    by = {column.key: column for column in MODELS}
    assert [row.model for row in order(rows, by["model"], reverse=False)] == sorted(row.model for row in rows)
    assert order(rows, by["interactive.tokens"], reverse=False)[0].model == "minilm"
    assert order(rows, by["failed_per_s"], reverse=False)[0].model == "broken"
    assert order(rows, by["failed_per_s"], reverse=True)[-1].model == "broken"
    assert all(len(order(rows, column, reverse=True)) == len(rows) for column in MODELS)
    workers = busy_fleet().workers
    assert all(order(workers, column, reverse=False)[0] in workers for column in WORKERS)
    assert order(list[WorkerRow](), WORKERS[0], reverse=False) == []


def test_a_filter_wants_all_of_its_words() -> None:
    """In any case, in any order."""
    rows = busy_fleet().models
    assert [row.model for row in matching(rows, "LARGE e5", lambda row: row.model)] == [
        "multilingual-e5-large-instruct"
    ]
    assert matching(rows, "nothing", lambda row: row.model) == []
    assert matching(rows, "  ", lambda row: row.model) == list(rows)


def test_a_key_asks_before_it_tells() -> None:
    """Each wish has its question; `p` turns round what is."""
    rows = {row.model: row for row in busy_fleet().models}
    assert pin_or_not(rows["minilm"]) == "unpin"
    assert pin_or_not(rows["tail"]) == "pin"
    assert TOLD.keys() == ASKED.keys()
    assert all("tail" in question(wish, "tail") for wish in ASKED)


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    """Names come from Redis, where others may write."""
    view = look("p", [WorkerStatus(id="\x1b[2Jw", host="a\nb", models={"\x1b]0;m\x07": ModelStatus(state="x\ry")})], 0)
    assert not re.search(r"[\x00-\x1f\x7f]", "".join(page(view, 200)))


@given(st.floats(0, 1e17))
def test_a_count_has_five_characters_at_most(value: float) -> None:
    """As wide as its column."""
    assert 1 <= len(count(value)) <= 5


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_larger_count_is_not_shown_as_a_smaller_one(one: int, other: int) -> None:
    """Rounding keeps the order."""
    small, large = sorted((one, other))
    assert _read(count(small)) <= _read(count(large))


def _read(text: str) -> float:
    units = {"k": 1e3, "M": 1e6, "G": 1e9}
    return float(text[:-1]) * units[text[-1]] if text[-1] in units else float(text)


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        (count(0), "0"),
        (count(0.01), "<0.1"),
        (count(0.34), "0.3"),
        (count(999.4), "999"),
        (count(999.6), "1.0k"),
        (count(1_234), "1.2k"),
        (count(35_000), "35k"),
        (count(4_000_000), "4.0M"),
        (age(0), "0s"),
        (age(59.9), "59s"),
        (age(60), "1m"),
        (age(7_300), "2h"),
        (age(200_000), "2d"),
        (share(None), "-"),
        (share(0.934), "93%"),
        (clip("abcdef", 4), "abc…"),
        (clip("abcd", 4), "abcd"),
    ],
)
def test_numbers_are_written_as_people_do(shown: str, said: str) -> None:
    """Short, with their unit."""
    assert shown == said
