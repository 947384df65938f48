"""What a checkpoint folder is, and what becomes of it."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from embedmq_worker.config import Model
from embedmq_worker.engine import parity, trial
from embedmq_worker.engine.kinds import Kind, kind_of
from embedmq_worker.engine.load import load
from embedmq_worker.engine.opening import open_model
from embedmq_worker.engine.seam import Ask, Block, Encoded, Options, Slice
from embedmq_worker.errors import CheckpointBroken
from safetensors.torch import load_file, save_file
from sentence_transformers import SparseEncoder
from sentence_transformers.base.model import BaseModel
from torch import Tensor
from transformers.models.bert.modeling_bert import BertEmbeddings, BertEncoder

from tests.engine.checkpoints import HIDDEN, TEXTS, TOKEN_WIDTH, make
from tests.engine.checkpoints import Kind as Made

SAID: dict[Made, Kind] = {
    "dense": "SentenceTransformer",
    "sparse": "SparseEncoder",
    "multivector": "MultiVectorEncoder",
    "cross": "CrossEncoder",
}


@pytest.mark.parametrize("made", SAID)
def test_what_sentence_transformers_saved_is_recognised(made: Made, tmp_path: Path) -> None:
    """Each of its four classes."""
    assert kind_of(make(tmp_path, "bert", made)) == SAID[made]


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        ("sentence_transformers.models.SpladePooling", "SparseEncoder"),
        ("sentence_transformers.multi_vector_encoder.modules.MultiVectorMask", "MultiVectorEncoder"),
        ("sentence_transformers.models.Pooling", "SentenceTransformer"),
    ],
)
def test_an_older_folder_is_told_by_its_modules(module: str, kind: Kind, tmp_path: Path) -> None:
    """It names no class, but what it is made of."""
    (tmp_path / "modules.json").write_text(
        json.dumps([{"type": "sentence_transformers.models.Transformer"}, {"type": module}])
    )
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertForSequenceClassification"]}))
    assert kind_of(tmp_path) == kind


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("BertForSequenceClassification", "CrossEncoder"),
        ("HF_ColBERT", "MultiVectorEncoder"),
        ("BertModel", "SentenceTransformer"),
        ("BertForMaskedLM", "SentenceTransformer"),
    ],
)
def test_a_folder_of_transformers_alone_is_told_by_its_architecture(
    architecture: str, kind: Kind, tmp_path: Path
) -> None:
    """A masked language model has no sparse vectors of its own: without SPLADE's pooling it is any encoder."""
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    assert kind_of(tmp_path) == kind


@pytest.mark.parametrize("text", ["{", "[]", '{"model_type": 3}'])
def test_a_configuration_that_is_none_is_named(text: str, tmp_path: Path) -> None:
    """By its file."""
    (tmp_path / "config_sentence_transformers.json").write_text(text)
    with pytest.raises(ValueError, match=r"config_sentence_transformers\.json"):
        kind_of(tmp_path)


def test_the_reference_refuses_a_way_that_a_library_has_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Here one that misreads the places it is told, which only the packed path tells it: loudly, the next is taken."""
    whole = BertEmbeddings.forward

    def misread(self: BertEmbeddings, *, position_ids: Any = None, **kwargs: Any) -> Tensor:
        shifted = None if position_ids is None else (position_ids - 1).clamp_min(0)
        return whole(self, position_ids=shifted, **kwargs)

    monkeypatch.setattr(BertEmbeddings, "forward", misread)
    folder = make(tmp_path, "bert")
    facts = load(Model(checkpoint=str(folder), dtype="float32"), "cpu").facts
    assert facts.path == "padded"
    assert "packed: dense cosine" in facts.reason
    (refusal,) = [record for record in caplog.records if record.message == "path_refused"]
    told = vars(refusal)
    assert (refusal.levelname, told["model"], told["path"]) == ("ERROR", str(folder), "packed")
    assert told["reason"].startswith("dense cosine ")
    with pytest.raises(CheckpointBroken, match=r"no way to run it.*packed: dense cosine .* alone"):
        load(Model(checkpoint=str(folder), dtype="float32", path="packed"), "cpu")


def test_a_way_that_is_impossible_cannot_be_forced(tmp_path: Path) -> None:
    """The reason is named."""
    folder = make(tmp_path, "mpnet")
    with pytest.raises(CheckpointBroken, match="packed: the attention of a MPNetModel cannot be exchanged"):
        load(Model(checkpoint=str(folder), path="packed"), "cpu")
    assert load(Model(checkpoint=str(folder), path="padded", dtype="float32"), "cpu").facts.path == "padded"


def test_a_model_computes_in_the_dtype_that_is_configured(tmp_path: Path) -> None:
    """And by measurement where none is: in one of those that pass."""
    folder = make(tmp_path, "bert")
    half, auto = (load(Model(checkpoint=str(folder), dtype=dtype), "cpu").facts for dtype in ("bfloat16", "auto"))
    whole = load(Model(checkpoint=str(folder), dtype="float32"), "cpu").facts
    assert (half.computed_in, whole.computed_in) == ("bfloat16", "float32")
    assert half.bytes * 2 == whole.bytes
    assert auto.computed_in in ("float32", "bfloat16")


def test_texts_are_cut_where_the_configuration_says_on_every_way(tmp_path: Path) -> None:
    """The gate compares what is cut alike."""
    folder = make(tmp_path, "roberta")
    for path in ("packed", "padded", "sentence-transformers"):
        model = Model(checkpoint=str(folder), dtype="float32", path=path, max_tokens=20)
        engine = load(model, "cpu")
        assert engine.facts.max_tokens == 20
        (prepared,) = engine.prepare([Ask([TEXTS[2]], Options())])
        assert (prepared.tokens, prepared.truncated) == ([20], [0])


def with_weights(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> Path:
    """The same checkpoint with other weights."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_weight_that_is_no_number_is_named(tmp_path: Path) -> None:
    """NaN would be in every vector."""

    def damage(weights: dict[str, Tensor]) -> None:
        weights["embeddings.word_embeddings.weight"][7, 3] = float("nan")

    folder = with_weights(make(tmp_path, "bert"), damage)
    with pytest.raises(CheckpointBroken, match=r"word_embeddings\.weight has numbers that are none"):
        load(Model(checkpoint=str(folder)), "cpu")


def test_a_classifier_of_several_labels_gives_no_score(tmp_path: Path) -> None:
    """A score is one number."""
    folder = make(tmp_path, "bert", "cross", labels=3)
    with pytest.raises(CheckpointBroken, match="gives 3 labels"):
        load(Model(checkpoint=str(folder)), "cpu")


def three_heads(folder: Path) -> list[str]:
    """A sparse, a dense and a multivector checkpoint of one transformer."""
    sparse = SparseEncoder(str(make(folder / "sparse", "bert", "sparse")), device="cpu")
    encoder = sparse.transformers_model
    assert encoder is not None
    kinds: tuple[Made, ...] = ("dense", "multivector")
    for kind in kinds:
        kept = make(folder / kind, "bert", kind)

        def share(weights: dict[str, Tensor]) -> None:
            shared = encoder.base_model.state_dict()
            weights.update({name: shared[name].clone() for name in weights if name in shared})

        with_weights(kept, share)
    return [str(folder / kind) for kind in ("dense", "sparse", "multivector")]


def test_heads_of_one_transformer_are_computed_in_one_forward_pass(tmp_path: Path) -> None:
    """Dense, sparse and multivector, each as of its own checkpoint: the masked language model runs for all."""
    first, *heads = three_heads(tmp_path)
    engine = load(Model(checkpoint=first, heads=heads, dtype="float32"), "cpu")
    assert (engine.facts.path, engine.facts.outputs) == ("packed", ("dense", "sparse", "multivector"))
    assert (engine.facts.dimensions, engine.facts.token_dimensions) == (HIDDEN, TOKEN_WIDTH)
    passes: list[object] = []
    watched = [found for found in gc.get_objects() if type(found) is BertEncoder]
    for encoder in watched:
        encoder.register_forward_hook(lambda *_: passes.append(1))
    options = Options(outputs=("dense", "sparse", "multivector"))
    (prepared,) = engine.prepare([Ask(TEXTS, options)])
    (found,) = engine.launch([Slice(prepared, options, 0, len(TEXTS))]).collect()
    assert len(passes) == 1
    for text, name in ((first, "dense"), *zip(heads, ("sparse", "multivector"), strict=True)):
        alone = Options(outputs=(name,))
        single = load(Model(checkpoint=text, dtype="float32"), "cpu")
        (wanted,) = single.launch([Slice(single.prepare([Ask(TEXTS, alone)])[0], alone, 0, len(TEXTS))]).collect()
        rows = [item(found, index, name) for index in range(len(TEXTS))]
        right = [item(wanted, index, name) for index in range(len(TEXTS))]
        assert parity.compare(itemgetters(rows), right, parity.FULL).passed


def itemgetters(rows: list[Encoded]) -> parity.Compute:
    return lambda numbers: [rows[i] for i in numbers]


def item(encoded: Encoded, index: int, output: str) -> Encoded:
    """One row of one output."""
    if encoded.dense is not None and output == "dense":
        return Encoded(dense=Block(encoded.dense.data[index : index + 1]))
    if encoded.sparse is not None and output == "sparse":
        return Encoded(sparse=[encoded.sparse[index]])
    assert encoded.multivector is not None
    return Encoded(multivector=[encoded.multivector[index]])


def test_heads_of_another_transformer_are_refused(tmp_path: Path) -> None:
    """With the weight in which they differ."""
    first, other = make(tmp_path / "a", "bert"), make(tmp_path / "b", "bert", "sparse", seed=1)
    with pytest.raises(CheckpointBroken, match=r"not the transformer of .* they differ in embeddings"):
        load(Model(checkpoint=str(first), heads=[str(other)]), "cpu")


@pytest.mark.parametrize("made", ["dense", "cross"])
def test_heads_must_give_different_kinds_of_vectors(made: Made, tmp_path: Path) -> None:
    """Or a request could not say which it wants; and scores are no vectors."""
    folder = str(make(tmp_path, "bert", made))
    with pytest.raises(CheckpointBroken, match="different kinds"):
        load(Model(checkpoint=folder, heads=[folder]), "cpu")


def test_heads_need_the_packed_path(tmp_path: Path) -> None:
    """On the others each would be a forward pass of its own."""
    first, *heads = three_heads(tmp_path)
    with pytest.raises(CheckpointBroken, match="packed path alone"):
        load(Model(checkpoint=first, heads=heads, path="padded"), "cpu")


def test_what_loading_opened_beside_the_model_is_let_go_without_the_collector(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On a device the reference would take the room of the next model: a worker's collector comes by seldom."""
    opened: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def open_and_watch(*arguments: Any, **options: Any) -> BaseModel:
        model = open_model(*arguments, **options)
        opened.append(weakref.ref(next(model.parameters())))
        alive.append(sum(one() is not None for one in opened))
        return model

    monkeypatch.setattr(trial, "open_model", open_and_watch)
    folder = make(tmp_path, "deberta-v2")
    gc.collect()
    gc.disable()
    try:
        engine = load(Model(checkpoint=str(folder), dtype="float32"), "cpu")
        assert engine.facts.path == "padded"
        assert alive == [1, 1, 1], "the reference, what could not be packed, and what is served"
        assert sum(one() is not None for one in opened) == 1
    finally:
        gc.enable()
    engine.close()
