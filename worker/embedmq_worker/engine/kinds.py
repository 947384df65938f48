"""Which of sentence-transformers' classes does a checkpoint folder belong to?"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

import msgspec

Value = TypeVar("Value")

Kind = Literal["SentenceTransformer", "SparseEncoder", "MultiVectorEncoder", "CrossEncoder"]

TYPES: dict[str, Kind] = {
    "SentenceTransformer": "SentenceTransformer",
    "SparseEncoder": "SparseEncoder",
    "MultiVectorEncoder": "MultiVectorEncoder",
    "ColBERT": "MultiVectorEncoder",  # PyLate's name
    "CrossEncoder": "CrossEncoder",
}

MODULES: dict[str, Kind] = {
    "SpladePooling": "SparseEncoder",
    "MLMTransformer": "SparseEncoder",
    "SparseAutoEncoder": "SparseEncoder",
    "SparseStaticEmbedding": "SparseEncoder",
    "MultiVectorMask": "MultiVectorEncoder",
    "LogitScore": "CrossEncoder",
}


class _Module(msgspec.Struct):
    type: str = ""


class _Settings(msgspec.Struct):
    model_type: str | None = None


class _Architecture(msgspec.Struct):
    architectures: list[str] | None = None


def kind_of(folder: Path) -> Kind:
    """Read what the checkpoint says of itself, else what its modules or its architecture tell.

    Raises:
        ValueError: one of its configurations is not the JSON that it should be.
    """
    said = _read(folder / "config_sentence_transformers.json", _Settings, _Settings()).model_type
    if (kind := TYPES.get(said or "")) is not None:
        return kind
    modules = _read(folder / "modules.json", list[_Module], [])
    names = [module.type.rpartition(".")[2] for module in modules]
    told: list[Kind] = [MODULES[name] for name in names if name in MODULES]
    if told:
        return told[0]
    architectures = _read(folder / "config.json", _Architecture, _Architecture()).architectures or []
    if "HF_ColBERT" in architectures:
        return "MultiVectorEncoder"
    if not modules and any(name.endswith("ForSequenceClassification") for name in architectures):
        return "CrossEncoder"
    return "SentenceTransformer"


def _read(path: Path, kind: type[Value], missing: Value) -> Value:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return missing
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
