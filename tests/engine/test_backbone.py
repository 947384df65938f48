"""A stock model computes the same on a batch without padding as on a padded one."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from embedmq_worker.engine.backbone import Backbone, open_backbone
from embedmq_worker.engine.describe import learned_places
from embedmq_worker.engine.layout import pack
from embedmq_worker.engine.rows import Unpackable
from embedmq_worker.engine.seam import Ids
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.modules import Transformer
from torch import Tensor

from tests.engine.checkpoints import LONGEST, MASKED, PACKABLE, TEXTS, WINDOW, Kind, make

CPU = torch.device("cpu")
CLASSES: dict[Kind, type[BaseModel]] = {"dense": SentenceTransformer, "sparse": SparseEncoder, "cross": CrossEncoder}


def loaded(folder: Path, architecture: str, kind: Kind = "dense", **settings: object) -> tuple[BaseModel, Transformer]:
    """A model as sentence-transformers loads it, and its transformer."""
    model = CLASSES[kind](str(make(folder, architecture, kind, settings=settings)), device="cpu").eval()
    transformer = next(iter(model.children()))
    assert isinstance(transformer, Transformer)
    return model, transformer


def opened(transformer: Transformer) -> Backbone:
    """The same model for packed batches."""
    backbone = open_backbone(transformer)
    assert isinstance(backbone, Backbone), backbone
    return backbone


def tokens(model: BaseModel, texts: list[str]) -> list[Ids]:
    """Rows of ids."""
    return [np.array(row, np.int32) for row in model.tokenizer(texts)["input_ids"]]


@torch.inference_mode()
def padded(model: BaseModel, transformer: Transformer, texts: list[str]) -> list[Tensor]:
    """What the stock model says of each token of each text."""
    features = model.tokenizer(texts, padding=True, return_tensors="pt")
    states = transformer.model.base_model(**features).last_hidden_state
    return [row[mask] for row, mask in zip(states, features["attention_mask"].bool(), strict=True)]


@torch.inference_mode()
def packed(backbone: Backbone, rows: list[Ids]) -> list[Tensor]:
    """The same without padding."""
    layout = pack(rows, CPU)
    hidden = backbone(layout).hidden
    assert hidden is not None
    return list(torch.split(hidden, list(layout.lengths)))


def apart(found: list[Tensor], wanted: list[Tensor]) -> float:
    """The largest difference of any number of any token."""
    assert [one.shape for one in found] == [one.shape for one in wanted]
    return max(float((one - other).abs().max()) for one, other in zip(found, wanted, strict=True))


@pytest.mark.parametrize("architecture", PACKABLE)
def test_every_token_is_as_in_the_padded_model(architecture: str, tmp_path: Path) -> None:
    """In a batch of mixed lengths, alone, in another order, and beside other neighbours."""
    model, transformer = loaded(tmp_path, architecture)
    backbone, rows = opened(transformer), tokens(model, TEXTS)
    wanted = padded(model, transformer, TEXTS)
    assert apart(packed(backbone, rows), wanted) < 1e-4
    assert apart([packed(backbone, [row])[0] for row in rows], wanted) < 1e-4
    order = random.Random(1).sample(range(len(rows)), len(rows))
    assert apart(packed(backbone, [rows[i] for i in order]), [wanted[i] for i in order]) < 1e-4
    assert apart(packed(backbone, [rows[2], rows[0], rows[2]])[1:2], wanted[:1]) < 1e-4


@pytest.mark.parametrize("architecture", ["modernbert", "gemma3_text"])
@pytest.mark.parametrize("length", [WINDOW // 2, WINDOW // 2 + 1, WINDOW, WINDOW + 1, 3 * WINDOW, LONGEST])
def test_a_window_is_neither_wider_nor_narrower(architecture: str, length: int, tmp_path: Path) -> None:
    """One neighbour more or less would show: at lengths around the window and far beyond it."""
    model, transformer = loaded(tmp_path, architecture)
    text = " ".join(random.Random(length).choices(TEXTS[2].split(), k=LONGEST))
    row = tokens(model, [text])[0][:length]
    with torch.inference_mode():
        wanted = transformer.model(input_ids=torch.from_numpy(row)[None].long()).last_hidden_state[0]
    assert apart(packed(opened(transformer), [row]), [wanted]) < 1e-4


@pytest.mark.parametrize("architecture", MASKED)
def test_logits_of_words_are_as_in_the_padded_model(architecture: str, tmp_path: Path) -> None:
    """For each token, with and without its last layer in the same pass."""
    model, transformer = loaded(tmp_path, architecture, "sparse")
    if architecture not in PACKABLE:
        assert isinstance(open_backbone(transformer), Unpackable)
        return
    layout = pack(tokens(model, TEXTS), CPU)
    with torch.inference_mode():
        features = model.tokenizer(TEXTS, padding=True, return_tensors="pt")
        wanted = transformer.model(**features).logits[features["attention_mask"].bool()]
        both, alone = opened(transformer)(layout, logits=True), opened(transformer)(layout, logits=True, hidden=False)
    assert both.logits is not None
    torch.testing.assert_close(both.logits, wanted, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(alone.logits, both.logits)
    assert both.hidden is not None
    assert alone.hidden is None


@pytest.mark.parametrize("architecture", [*PACKABLE, "modernbert that averages"])
def test_a_classifier_sees_each_pair_on_its_own(architecture: str, tmp_path: Path) -> None:
    """Its own head, whichever token it looks at; the tokens of query and document are of their types."""
    name, _, average = architecture.partition(" ")
    settings = {"classifier_pooling": "mean"} if average else {}
    model, transformer = loaded(tmp_path, name, "cross", **settings)
    features = model.tokenizer([TEXTS[7]] * len(TEXTS), TEXTS, padding=True, return_tensors="pt")
    lengths = features["attention_mask"].sum(1).tolist()
    rows = [ids[:length].numpy().astype(np.int32) for ids, length in zip(features["input_ids"], lengths, strict=True)]
    types = features.get("token_type_ids")
    firsts = None if types is None else [int(n - own.sum()) for n, own in zip(lengths, types, strict=True)]
    with torch.inference_mode():
        wanted = transformer.model(**features).logits
        found = opened(transformer)(pack(rows, CPU, firsts=firsts), logits=True, hidden=False).logits
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_types_are_told_apart(tmp_path: Path) -> None:
    """A document that is taken for its query gets another score."""
    model, transformer = loaded(tmp_path, "bert", "cross")
    row = [np.array(model.tokenizer(TEXTS[3], TEXTS[4])["input_ids"], np.int32)]
    with torch.inference_mode():
        right, wrong = (opened(transformer)(pack(row, CPU, firsts=[n]), logits=True).logits for n in (4, 99))
    assert right is not None
    assert wrong is not None
    assert not torch.allclose(right, wrong, atol=1e-3)


def test_padding_at_the_end_of_a_text_is_not_what_a_decoder_classifies_by(tmp_path: Path) -> None:
    """Decoders often end texts with the token they pad with; their classifiers look at the one before it."""
    model, transformer = loaded(tmp_path, "qwen3", "cross")
    pad = model.tokenizer.pad_token_id
    rows = [np.array([9, 8, 7], np.int32), np.array([9, 8, 7, pad], np.int32), np.array([pad], np.int32)]
    with torch.inference_mode():
        found = opened(transformer)(pack(rows, CPU), logits=True).logits
        alone = [transformer.model(input_ids=torch.from_numpy(row)[None].long()).logits[0] for row in rows]
    torch.testing.assert_close(found, torch.stack(alone), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", PACKABLE)
def test_the_model_computes_on_its_own_way_what_it_did_before(architecture: str, tmp_path: Path) -> None:
    """The reference that vectors are compared with is the model itself: to the last bit, and after an error too."""
    model, transformer = loaded(tmp_path, architecture)
    before = padded(model, transformer, TEXTS)
    backbone = opened(transformer)
    packed(backbone, tokens(model, TEXTS))
    with pytest.raises(IndexError):
        packed(backbone, [np.array([99_999], np.int32)])
    assert apart(padded(model, transformer, TEXTS), before) == 0


@pytest.mark.parametrize("architecture", ["mpnet", "deberta-v2"])
@pytest.mark.parametrize("kind", ["dense", "sparse", "cross"])
def test_a_model_whose_attention_cannot_be_exchanged_says_so(architecture: str, kind: Kind, tmp_path: Path) -> None:
    """It would compute something else in silence."""
    _, transformer = loaded(tmp_path, architecture, kind)
    found = open_backbone(transformer)
    assert isinstance(found, Unpackable)
    assert "attention" in found.reason


def test_a_model_of_which_another_layer_is_read_says_so(tmp_path: Path) -> None:
    """Only the last layer and the logits come out of a packed pass."""
    _, transformer = loaded(tmp_path, "bert")
    transformer.modality_config["text"]["method_output_name"] = "pooler_output"
    found = open_backbone(transformer)
    assert isinstance(found, Unpackable)
    assert "last layer" in found.reason


@pytest.mark.parametrize(("architecture", "places"), [("bert", LONGEST), ("roberta", LONGEST), ("qwen3", None)])
def test_how_long_a_text_may_be_is_known(architecture: str, places: int | None, tmp_path: Path) -> None:
    """Of learned places there are so many; a token beyond them would crash a device."""
    _, longest = learned_places(loaded(tmp_path, architecture)[1].model)
    assert longest == places


def test_sixteen_bits_are_computed_in_sixteen_bits(tmp_path: Path) -> None:
    """The packed pass keeps the dtype of the weights."""
    model, transformer = loaded(tmp_path, "modernbert")
    transformer.bfloat16()
    found = packed(opened(transformer), tokens(model, TEXTS[:2]))
    assert {row.dtype for row in found} == {torch.bfloat16}
