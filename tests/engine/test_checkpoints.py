"""The tiny checkpoints are fit to be compared by: a fault in computing them would show."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules.pooling import PoolingMode

from tests.engine.checkpoints import ARCHITECTURES, TEXTS, make


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_other_texts_have_other_vectors(architecture: str, pooling: PoolingMode, tmp_path: Path) -> None:
    """Cosine below 0.9 between any two, or agreement with a reference would prove nothing."""
    model = SentenceTransformer(str(make(tmp_path, architecture, pooling=pooling)), device="cpu")
    vectors = model.encode(TEXTS, convert_to_tensor=True)
    likeness = vectors @ vectors.T - torch.eye(len(TEXTS))
    assert likeness.max() < 0.9
