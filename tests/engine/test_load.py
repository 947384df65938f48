"""What a checkpoint folder is, and what becomes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from embedmq_worker.engine.kinds import Kind, kind_of

from tests.engine.checkpoints import Kind as Made
from tests.engine.checkpoints import make

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
