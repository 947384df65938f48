"""What does a tiny checkpoint of each architecture look like, so that a fault in computing it shows?

Random weights as a library draws them give nearly the same vector to every text. These are drawn wide, words and
places alike, so that other texts, other places and other neighbours give clearly other vectors. (Of models with
rotary places the same shift of *all* places changes nothing; they notice a shift of some.)
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.base.modules.transformer import TransformerTask
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Pooling
from sentence_transformers.sentence_transformer.modules.pooling import PoolingMode
from sentence_transformers.sparse_encoder.modules import SpladePooling
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    Gemma3PreTrainedModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils.logging import disable_progress_bar

Kind = Literal["dense", "sparse", "multivector", "cross"]

PACKABLE = (
    "bert",
    "roberta",
    "xlm-roberta",
    "distilbert",
    "electra",
    "modernbert",
    "nomic_bert",
    "qwen3",
    "gemma3_text",
)
ARCHITECTURES = (*PACKABLE, "mpnet", "deberta-v2")
MASKED = tuple(name for name in ARCHITECTURES if name not in ("qwen3", "gemma3_text"))
"""Those that can be `sparse`: the others have no masked language model."""

HIDDEN, LAYERS, HEADS, WINDOW, LONGEST = 64, 4, 4, 16, 256
TOKEN_WIDTH = 32
"""Width of the vectors of `multivector`."""
SKIPLIST = [".", ",", "!"]

_SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
_DRAW = random.Random(7)
WORDS = sorted({"".join(_DRAW.choices(_SYLLABLES, k=_DRAW.choice((2, 2, 3)))) for _ in range(1_000)})[:850]
"""What the texts are made of; each is one token of every tokenizer here."""


def _text(length: int, seed: int) -> str:
    """Words about something: a text repeats few words, as real ones do, or all long texts would be alike."""
    draw = random.Random(seed)
    topic = draw.sample(WORDS, 3 + length // 10)
    return " ".join(draw.choice(topic) + draw.choice(("", "", "", "", "", ".", ",")) for _ in range(length))


TEXTS = [_text(length, seed) for seed, length in enumerate((1, 2, 150, 3, 40, 8, 90, 17, 5, 120, 25, 60))]
"""Twelve, of 1 to 150 words, unsorted."""

_ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_SPECIAL = {  # cls/bos, pad, sep/eos, unk, mask, in the order of their ids
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "mpnet": _ROBERTA,
    "qwen3": ("<bos>", "<pad>", "<eos>", "<unk>", "<mask>"),
    "gemma3_text": ("<bos>", "<pad>", "<eos>", "<unk>", "<mask>"),
}
_TYPED = ("bert", "electra", "nomic_bert")


def _tokenizer(architecture: str) -> PreTrainedTokenizerFast:
    first, pad, last, unknown, mask = _SPECIAL.get(architecture, ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"))
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = [first, pad, last, unknown, mask, *".,!?:;-'", *letters, *(f"##{letter}" for letter in letters), *WORDS]
    ids = {piece: place for place, piece in enumerate(pieces)}
    backend = Tokenizer(models.WordPiece(vocab=ids, unk_token=unknown, max_input_chars_per_word=50))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    one, two = f"{first} $A {last}", f"{first} $A {last} $B:1 {last}:1"
    if architecture == "qwen3":
        one, two = f"$A {last}", f"$A $B:1 {last}:1"
    elif architecture in ("roberta", "xlm-roberta", "mpnet"):
        two = f"{first} $A {last} {last} $B {last}"
    specials = [(token, ids[token]) for token in (first, last)]
    backend.post_processor = processors.TemplateProcessing(single=one, pair=two, special_tokens=specials)
    names = ["input_ids", *(["token_type_ids"] if architecture in _TYPED else []), "attention_mask"]
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers types some
        tokenizer_object=backend,
        bos_token=first,
        cls_token=first,
        eos_token=last,
        sep_token=last,
        pad_token=pad,
        unk_token=unknown,
        mask_token=mask,
        model_max_length=LONGEST,
        model_input_names=names,
    )


def _settings(architecture: str) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 2 * HIDDEN,
        "max_position_embeddings": LONGEST,
    }
    if architecture in ("roberta", "xlm-roberta", "mpnet"):
        settings |= {"max_position_embeddings": LONGEST + 2}
    if architecture == "distilbert":
        settings = {"dim": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": 2 * HIDDEN}
        settings |= {"max_position_embeddings": LONGEST}
    if architecture == "electra":
        settings |= {"embedding_size": HIDDEN // 2}
    if architecture == "modernbert":
        settings |= {"local_attention": WINDOW, "global_attn_every_n_layers": 2}
    if architecture in ("qwen3", "gemma3_text"):
        settings |= {"num_key_value_heads": HEADS // 2, "head_dim": HIDDEN // HEADS}
    if architecture == "gemma3_text":
        settings |= {"use_bidirectional_attention": True, "sliding_window": WINDOW, "query_pre_attn_scalar": 16}
        settings |= {"layer_types": ["sliding_attention", "full_attention"] * (LAYERS // 2)}
    if architecture == "deberta-v2":
        settings |= {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0}
        settings |= {"position_biased_input": False, "max_relative_positions": 32, "pad_token_id": 1}
    return settings


@torch.no_grad()
def _draw(module: nn.Module, seed: int) -> None:
    """Words and places alike in loudness, sharp attention, and no direction that all texts share."""
    generator = torch.Generator().manual_seed(seed)
    gemma = isinstance(module, Gemma3PreTrainedModel)
    for name, weight in module.named_parameters():
        table = "embed" in name and weight.ndim == 2 and weight.shape[0] > HIDDEN
        if table:  # places a little less loud than words; gemma multiplies what it looks up
            scale = HIDDEN**-0.5 if "embed_tokens" in name and gemma else 0.7 if "position" in name else 1.0
            weight.normal_(0.0, scale, generator=generator)
        elif weight.ndim >= 2:
            weight.normal_(0.0, 1.5 / weight.shape[1] ** 0.5, generator=generator)
            weight.sub_(weight.mean(1, keepdim=True))  # what an activation adds to every text alike goes no further
        elif name.endswith("bias"):
            weight.normal_(0.0, 0.02, generator=generator)


@torch.no_grad()
def _thin(model: PreTrainedModel) -> None:
    """Let few words of the vocabulary pass, or all sparse vectors would be alike."""
    logits = model(torch.arange(40, 240)[None]).logits
    words = model.get_output_embeddings()  # type: ignore[no-untyped-call]  # transformers types some
    assert words is not None
    words.bias.sub_(logits.quantile(0.99))


def _model(
    architecture: str, kind: Kind, tokenizer: PreTrainedTokenizerFast, settings: Mapping[str, Any]
) -> PreTrainedModel:
    tokens = {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos", "cls", "sep")
    }
    config = AutoConfig.for_model(architecture, **{"vocab_size": len(tokenizer), **tokens, **settings})
    auto = {"sparse": AutoModelForMaskedLM, "cross": AutoModelForSequenceClassification}.get(kind, AutoModel)
    model: PreTrainedModel = auto.from_config(config)  # type: ignore[no-untyped-call]  # as above
    model.eval()  # type: ignore[no-untyped-call]  # as above
    return model


def make(
    folder: Path,
    architecture: str,
    kind: Kind = "dense",
    pooling: PoolingMode | None = None,
    *,
    normalize: bool = True,
    dense: int | None = None,
    prompts: dict[str, str] | None = None,
    include_prompt: bool = True,
    labels: int = 1,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint as sentence-transformers saves them, and return its folder.

    Args:
        folder: Where to; made if need be.
        architecture: One of `ARCHITECTURES`.
        kind: `sparse` for `MASKED` only.
        pooling: Of `dense`; the mean if not said, the last token for qwen3.
        normalize: Of `dense`: whether it ends in `Normalize`.
        dense: Of `dense`: the width of a `Dense` head between pooling and `Normalize`; none if not said.
        prompts: By name.
        include_prompt: Of `dense`: whether a prompt's tokens are pooled.
        labels: Of `cross`.
        seed: Other seeds, other weights.
        settings: More of the architecture's own configuration.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call]  # it ships no types
    tokenizer = _tokenizer(architecture)
    wanted = {**_settings(architecture), **({"num_labels": labels} if kind == "cross" else {}), **(settings or {})}
    model = _model(architecture, kind, tokenizer, wanted)
    _draw(model, seed)
    if kind == "sparse":
        _thin(model)
    tasks: dict[Kind, TransformerTask] = {"sparse": "fill-mask", "cross": "sequence-classification"}
    with tempfile.TemporaryDirectory() as plain:
        model.save_pretrained(plain)
        tokenizer.save_pretrained(plain)
        transformer = Transformer(plain, transformer_task=tasks.get(kind, "feature-extraction"))
    pooling = pooling or ("lasttoken" if architecture == "qwen3" else "mean")
    whole: SentenceTransformer | SparseEncoder | MultiVectorEncoder | CrossEncoder
    if kind == "cross":
        whole = CrossEncoder(modules=[transformer], device="cpu", prompts=prompts)
    elif kind == "sparse":
        whole = SparseEncoder(modules=[transformer, SpladePooling()], device="cpu", prompts=prompts)
    elif kind == "multivector":
        whole = MultiVectorEncoder(modules=_late(transformer, seed), device="cpu", prompts=prompts)
    else:
        chain: list[nn.Module] = [transformer]
        chain += [Pooling(HIDDEN, pooling_mode=pooling, include_prompt=include_prompt)]
        chain += [_dense(HIDDEN, dense, seed)] if dense else []
        chain += [Normalize()] if normalize else []
        whole = SentenceTransformer(modules=chain, device="cpu", prompts=prompts)
    whole.save_pretrained(str(folder), create_model_card=False)
    return folder


def _dense(width: int, out: int, seed: int, **more: Any) -> Dense:
    dense = Dense(width, out, **more)
    _draw(dense, seed + 1)
    return dense


def _late(transformer: Transformer, seed: int) -> list[nn.Module]:
    name = "token_embeddings"
    project = _dense(HIDDEN, TOKEN_WIDTH, seed, bias=False, activation_function=None, module_input_name=name)
    return [transformer, project, MultiVectorMask(skiplist_words=SKIPLIST), Normalize(module_input_name=name)]
