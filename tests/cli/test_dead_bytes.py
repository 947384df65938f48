"""Whatever bytes lie on the topic of dead letters, they are read, judged and shown without harm."""

from __future__ import annotations

import json

from embedmq.cli.dead_rows import as_json, details, row
from embedmq.dead import REQUIRED, DeadLetter, Place, read
from embedmq.dead_replay import Refusal, Replay, Superseded, decide
from embedmq.dead_selection import Chosen
from embedmq_schemas import headers as h
from embedmq_schemas.names import Names
from hypothesis import given
from hypothesis import strategies as st

NAMES = Names("embedmq")
NAME = st.one_of(st.sampled_from([*REQUIRED, h.ATTEMPT, h.DLT_MESSAGE, h.CONTENT_TYPE, h.MODEL]), st.text(max_size=8))
VALUE = st.one_of(
    st.none(),
    st.binary(max_size=20),
    st.text(max_size=8).map(str.encode),
    st.sampled_from([b"embedmq.minilm.bulk", b"embedmq.shared.bulk", b"bulk", b"id-1", b"7", bytes(4), bytes(8)]),
)
WHOLE = [
    (h.ERROR_CODE, b"malformed"),
    (h.FIRST_SEEN, b"7"),
    (h.DLT_TOPIC, b"embedmq.minilm.bulk"),
    (h.DLT_PARTITION, bytes(4)),
    (h.DLT_OFFSET, bytes(8)),
    (h.ID, b"id-1"),
    (h.LANE, b"bulk"),
]
SOME = st.lists(st.tuples(NAME, VALUE), max_size=8)
HEADERS = st.one_of(SOME, SOME.map(lambda some: [*some, *WHOLE]), SOME.map(lambda some: [*WHOLE, *some]))
CONTENT = st.one_of(st.none(), st.binary(max_size=60), st.just(b'{"items": ["a"], "model": "\\u001b[2J"}'))
TIME = st.integers(-1, 2**63 - 1)


def letters() -> st.SearchStrategy[DeadLetter]:
    return st.builds(read, st.just(Place(0, 1)), TIME, CONTENT, CONTENT, HEADERS, st.just(NAMES))


@given(letters(), TIME)
def test_a_letter_is_shown_in_one_printable_line(letter: DeadLetter, now_unix_ms: int) -> None:
    """Also in each line of its details, and as JSON: nothing in it can move a terminal's cursor."""
    lines = [row(letter, now_unix_ms), *(how for _, how in details(letter, now_unix_ms)), as_json(letter)]
    assert all(line.isprintable() for line in lines)
    assert json.loads(as_json(letter))["place"] == "0/1"


@given(letters())
def test_only_a_whole_letter_of_ours_is_sent_and_only_to_a_request_topic(letter: DeadLetter) -> None:
    """With its content as it is, and nothing left of what giving up has written."""
    chosen = Chosen(frozenset([letter.place]), {letter.id: letter.place})
    topics = {"embedmq.minilm.bulk", "embedmq.dead", "orders"}
    match decide(letter, chosen, NAMES, topics, 5):
        case Replay(topic=topic, key=key, value=value, headers=headers):
            found = h.find(headers)
            assert (topic, key, value) == ("embedmq.minilm.bulk", letter.key, letter.value)
            assert not letter.fault
            assert set(REQUIRED) & set(found) == {h.ID, h.LANE}
            assert found[h.REPLAYED] == b"5"
        case Refusal(reason=reason):
            assert reason
        case other:
            assert isinstance(other, Superseded)
            raise AssertionError("there is no other letter")
