"""What is wrong with one item, or with one checkpoint, has a name there and costs its neighbours nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from embedmq_schemas.vectors import Array
from embedmq_worker.config import Model
from embedmq_worker.engine.load import load
from embedmq_worker.engine.seam import Ask, Encoded, Engine, Options, Prepared, Slice
from embedmq_worker.errors import CheckpointBroken, CheckpointInvalid, CheckpointMissing, CheckpointUnsafe
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from tests.engine.checkpoints import LONGEST, TEXTS, WORDS, make

IMAGE = "<image>"
"""A token that the tokenizer knows, and the model has no vector for."""

GOOD = {
    "empty": "",
    "a megabyte": f"{WORDS[3]} {WORDS[5]} " * 100_000,
    "a megabyte without a space": "b" * 1_000_000,
    "only emoji": "🐈👩‍👩‍👧🇺🇳" * 5,
    "control characters": "\x00\x01\x1b[31m\x07\u200b\ufeff\x7f",
    "right to left": f"\u202eשלום עולם\u202c {WORDS[1]} مرحبا",
}
TOO_LONG = " ".join(WORDS[number % len(WORDS)] for number in range(10_000))
SURROGATE = f"{WORDS[0]} \ud83d"


def with_a_token_too_many(folder: Path) -> Path:
    """As of a model whose tokenizer was made for its larger sister, which sees."""
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    token = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    number = max(tokenizer["model"]["vocab"].values()) + 1
    tokenizer["added_tokens"].append({"id": number, "content": IMAGE, "special": True, **token})
    file.write_text(json.dumps(tokenizer))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_a_token_too_many(make(tmp_path_factory.mktemp("roberta"), "roberta"))


@pytest.fixture(scope="module", params=["packed", "padded", "sentence-transformers"])
def engine(request: pytest.FixtureRequest, folder: Path) -> Iterator[Engine]:
    engine = load(Model(checkpoint=str(folder), dtype="float32", path=request.param), "cpu")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def theirs(folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(folder), device="cpu")


def compute(engine: Engine, asks: Sequence[Ask]) -> list[tuple[Prepared, Encoded]]:
    """All of them in one batch."""
    prepared = engine.prepare(asks)
    batch = [Slice(one, ask.options, 0, len(ask.items)) for one, ask in zip(prepared, asks, strict=True)]
    return list(zip(prepared, engine.launch(batch).collect(), strict=True))


def rows(encoded: Encoded) -> Array:
    assert encoded.dense is not None
    return encoded.dense.data


def codes(prepared: Prepared) -> dict[int, str]:
    return {index: fault.code for index, fault in prepared.faults.items()}


def test_odd_texts_have_the_vectors_that_sentence_transformers_gives_them(
    engine: Engine, theirs: SentenceTransformer
) -> None:
    """None is refused; what was cut is said."""
    texts = [*GOOD.values(), TEXTS[4]]
    ((prepared, encoded),) = compute(engine, [Ask(texts, Options())])
    assert (codes(prepared), prepared.truncated) == ({}, [1])
    np.testing.assert_allclose(rows(encoded), theirs.encode(texts), atol=1e-5)


def test_what_cannot_be_computed_fails_alone_in_a_batch_of_good_texts(
    engine: Engine, theirs: SentenceTransformer
) -> None:
    """Items of the same request, and other requests of the same batch, get their vectors."""
    strict = Options(truncate=False)
    bad = [TEXTS[0], TOO_LONG, SURROGATE, f"{WORDS[2]} {IMAGE}", TEXTS[2]]
    (prepared, encoded), (_, others) = compute(engine, [Ask(bad, strict), Ask(TEXTS[3:6], Options())])
    assert codes(prepared) == {1: "too_long", 2: "malformed", 3: "malformed"}
    assert "special token" in prepared.faults[3].message
    found = rows(encoded)
    assert np.isnan(found[1:4]).all()
    np.testing.assert_allclose(found[[0, 4]], theirs.encode([TEXTS[0], TEXTS[2]]), atol=1e-5)
    np.testing.assert_allclose(rows(others), theirs.encode(TEXTS[3:6]), atol=1e-5)


def test_a_prompt_without_vectors_fails_the_request_and_no_other(engine: Engine, theirs: SentenceTransformer) -> None:
    """It stands before every item of its own request."""
    asks = [Ask(TEXTS[:2], Options(prompt=prompt)) for prompt in (IMAGE, SURROGATE, "")]
    (one, _), (other, _), (_, good) = compute(engine, asks)
    assert codes(one) == codes(other) == {0: "malformed", 1: "malformed"}
    np.testing.assert_allclose(rows(good), theirs.encode(TEXTS[:2]), atol=1e-5)


def test_token_ids_never_reach_beyond_the_tables_of_words_and_places(
    engine: Engine, theirs: SentenceTransformer
) -> None:
    """RoBERTa has two places fewer than its table has rows."""
    last = engine.facts.vocabulary - 1
    ids = [[-1, 7], [7, last + 1], [2**40], [], [0, 9, 2], [last] * LONGEST, [last] * (LONGEST + 1)]
    (prepared, encoded), (strict, _), (_, others) = compute(
        engine, [Ask(ids, Options()), Ask(ids[5:], Options(truncate=False)), Ask(TEXTS[:2], Options())]
    )
    np.testing.assert_allclose(rows(others), theirs.encode(TEXTS[:2]), atol=1e-5)
    if engine.facts.path == "sentence-transformers":
        assert codes(prepared) == dict.fromkeys(range(len(ids)), "unsupported")
        return
    assert codes(prepared) == dict.fromkeys(range(4), "malformed")
    assert prepared.truncated == [6]
    assert codes(strict) == {1: "too_long"}
    found = rows(encoded)
    assert np.isfinite(found[4:]).all()
    np.testing.assert_allclose(found[5], found[6], atol=1e-5)


Spoil = Callable[[Path], object]


def without_a_shard(folder: Path) -> None:
    """A copy that was cut off after the first files."""
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    save_file({names[0]: weights[names[0]]}, folder / "model-00001-of-00002.safetensors", {"format": "pt"})
    shards = {name: f"model-0000{1 if name == names[0] else 2}-of-00002.safetensors" for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    (folder / "model.safetensors").unlink()


def with_a_wrong_shape(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.word_embeddings.weight"] = weights["embeddings.word_embeddings.weight"][:, :32].contiguous()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def with_a_nan(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.3.output.dense.bias"][5] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def with_pickles_only(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def of_an_unknown_architecture(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "tomorrows-bert"}))


@pytest.mark.parametrize(
    ("spoil", "kind", "says"),
    [
        (without_a_shard, CheckpointMissing, "model-00002-of-00002"),
        (with_a_wrong_shape, CheckpointBroken, r"word_embeddings\.weight"),
        (with_a_nan, CheckpointBroken, r"encoder\.layer\.3\.output\.dense\.bias"),
        (with_pickles_only, CheckpointUnsafe, "pickled weights"),
        (of_an_unknown_architecture, CheckpointBroken, "tomorrows-bert"),
    ],
)
def test_a_checkpoint_that_cannot_be_served_is_named_and_a_loaded_model_goes_on(
    spoil: Spoil, kind: type[CheckpointInvalid], says: str, engine: Engine, tmp_path: Path
) -> None:
    """With the file, the weight or the architecture that is at fault."""
    ((_, before),) = compute(engine, [Ask(TEXTS[:2], Options())])
    spoil(make(tmp_path, "bert"))
    with pytest.raises(kind, match=says) as caught:
        load(Model(checkpoint=str(tmp_path)), "cpu")
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    ((_, after),) = compute(engine, [Ask(TEXTS[:2], Options())])
    np.testing.assert_array_equal(rows(before), rows(after))
