"""A kept vector is found by all that it depends on and by nothing else, and nothing but itself is taken for it."""

from __future__ import annotations

import numpy as np
import pytest
from embedmq_schemas.limits import MIB
from embedmq_schemas.requests import Item
from embedmq_schemas.results import Sparse
from embedmq_worker.config import Cache
from embedmq_worker.content import digests, seal, unseal
from embedmq_worker.contents import places
from embedmq_worker.engine.seam import Block, Encoded, ModelFacts, Options
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

FACTS = ModelFacts(
    dimensions=4, max_tokens=99, token_dimensions=3, outputs=("dense", "sparse", "multivector"), revision="r1"
)
SCORING = ModelFacts(dimensions=0, max_tokens=99, outputs=(), scores=True)
EVERYTHING = Options(outputs=("dense", "sparse", "multivector"))
DIGEST = bytes(range(32))

ANSWERS = {
    "dense": (FACTS, Options(), Encoded(dense=Block(np.array([[1, -0.5, 3e-8, 0]], np.float32)))),
    "float16": (FACTS, Options(dtype="float16", dimensions=2), Encoded(dense=Block(np.array([[1, -0.5]], np.float16)))),
    "int8": (
        FACTS,
        Options(dtype="int8"),
        Encoded(dense=Block(np.array([[1, -127, 3, 4]], np.int8), np.array([0.1], np.float32))),
    ),
    "ubinary": (FACTS, Options(dtype="ubinary"), Encoded(dense=Block(np.array([[0xA0]], np.uint8)))),
    "everything": (
        FACTS,
        EVERYTHING,
        Encoded(
            dense=Block(np.ones((1, 4), np.float32)),
            sparse=[Sparse([3, 700], [0.25, float(np.float32(0.1))])],
            multivector=[Block(np.arange(6, dtype=np.float32).reshape(2, 3))],
        ),
    ),
    "no token": (FACTS, Options(outputs=("multivector",)), Encoded(multivector=[Block(np.ones((0, 3), np.float32))])),
    "score": (SCORING, Options(), Encoded(scores=np.array([0.1], np.float32))),
}

items = st.one_of(st.text(max_size=8), st.lists(st.integers(0, 300), max_size=4))


def same(found: Encoded | None, wanted: Encoded) -> bool:
    return found is not None and repr(found) == repr(wanted)


@pytest.mark.parametrize("name", ANSWERS)
def test_what_was_kept_comes_back_as_it_was(name: str) -> None:
    """Of every output and dtype, bit by bit."""
    facts, options, vectors = ANSWERS[name]
    assert same(unseal(DIGEST, seal(DIGEST, vectors), facts, options), vectors)


@pytest.mark.parametrize("name", ANSWERS)
def test_nothing_but_the_whole_value_of_this_item_is_taken_for_it(name: str) -> None:
    """Not that of another item in its place, not a damaged or a foreign one."""
    facts, options, vectors = ANSWERS[name]
    value = seal(DIGEST, vectors)
    assert unseal(DIGEST[::-1], value, facts, options) is None
    for at in range(len(value)):
        damaged = bytes([*value[:at], value[at] ^ 1, *value[at + 1 :]])
        assert unseal(DIGEST, damaged, facts, options) is None
        assert unseal(DIGEST, value[:at], facts, options) is None
    assert unseal(DIGEST, b"\x93\x01\x02\x03" * 20, facts, options) is None


def test_an_answer_of_another_form_is_none_although_its_seal_is_whole() -> None:
    """Other outputs, another width, another dtype than the request's."""
    for name, (_, _, vectors) in ANSWERS.items():
        value = seal(DIGEST, vectors)
        for other, (facts, options, _) in ANSWERS.items():
            assert (unseal(DIGEST, value, facts, options) is not None) == (name == other)
    dense = seal(DIGEST, ANSWERS["dense"][2])
    assert unseal(DIGEST, dense, structs.replace(FACTS, dimensions=5), Options()) is None


@given(st.lists(items, unique_by=repr, min_size=2, max_size=6))
def test_different_items_have_different_hashes_and_the_same_one_has_one(found: list[Item]) -> None:
    """Whether text or token ids; also in another process."""
    first, again = (digests("m", FACTS, Options(), None) for _ in range(2))
    assert len({first(item) for item in found}) == len(found)
    assert [first(item) for item in found] == [again(item) for item in found]


def test_all_that_a_vector_depends_on_is_in_its_hash() -> None:
    """Model, revision, arithmetic, path, limits, every option, the query."""
    changes = {
        "revision": "r2", "computed_in": "bfloat16", "path": "padded", "max_tokens": 98, "dimensions": 8,
        "token_dimensions": 8,
    }  # fmt: skip
    wishes = {
        "outputs": ("sparse",), "prompt_name": "q", "prompt": "q", "dimensions": 2, "dtype": "int8",
        "normalize": False, "truncate": False,
    }  # fmt: skip
    assert wishes.keys() == set(Options.__struct_fields__)
    changed = [structs.replace(FACTS, **{name: value}) for name, value in changes.items()]
    options = [structs.replace(Options(), **{name: value}) for name, value in wishes.items()]
    found = [
        *(digests(model, FACTS, Options(), None) for model in ("m", "n")),
        *(digests("m", facts, Options(), None) for facts in changed),
        *(digests("m", FACTS, option, None) for option in options),
        *(digests("m", FACTS, Options(), query) for query in ("q", "", "None", "\ud800")),
    ]
    assert len({digest("a cat") for digest in found}) == len(found)
    assert len({found[0](text) for text in ("\ud800", "\udfff", "?")}) == 3


@pytest.mark.parametrize("value", [64, 1_600, 8_192, MIB // 4])
def test_the_places_take_no_more_than_the_bound_and_most_of_it(value: int) -> None:
    """Whatever the size of a value."""
    found = places(Cache(max_bytes=MIB, max_value_bytes=value))
    assert found >= 1
    assert 0.15 * MIB <= found * value <= MIB
