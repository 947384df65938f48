"""A model's own tokenizer, opened as ours, gives the ids that sentence-transformers gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from embedmq_worker.config import Model
from embedmq_worker.engine.load import load
from embedmq_worker.engine.seam import Ask, Options, Prepared
from embedmq_worker.engine.tokenizer import open_texts
from embedmq_worker.engine.tokens import Texts
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import PreTrainedTokenizerFast

from tests.engine.checkpoints import HIDDEN, LONGEST, TEXTS, make

ODD = ["", "  two  spaces ", "UPPER Case", "\x00\t\n", "🐈‍⬛", "naïve ﬁne", *TEXTS, "bebe " * 400]
PROMPTS = {"query": "bebe ko: ", "document": ""}


def prepare(texts: Texts, items: Sequence[str | list[int]], options: Options | None = None) -> Prepared:
    (prepared,) = texts.prepare([Ask(items, options or Options())])
    return prepared


def same_ids(prepared: Prepared, wanted: Sequence[list[int]]) -> None:
    assert prepared.ids is not None
    assert [ids.tolist() for ids in prepared.ids] == list(wanted)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "qwen3", "gemma3_text"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_ids_are_those_of_sentence_transformers(tmp_path: Path, architecture: str, side: str) -> None:
    """Special tokens, prompts and the side that is cut off; nothing is stripped, controls and emoji are as they are."""
    model = SentenceTransformer(str(make(tmp_path, architecture, prompts=PROMPTS)), device="cpu")
    model.tokenizer.truncation_side = side
    texts = open_texts(model, LONGEST, len(model.tokenizer))
    for options, prompt in [(Options(), ""), (Options(prompt_name="query"), PROMPTS["query"])]:
        wanted = [model.preprocess([text], prompt=prompt)["input_ids"][0].tolist() for text in ODD]
        same_ids(prepare(texts, ODD, options), wanted)


@pytest.mark.parametrize("wished", [True, False])
def test_lower_case_is_the_tokenizers_own_business(tmp_path: Path, wished: bool) -> None:
    """Also where sentence-transformers adds it to a tokenizer that lacks it."""
    path = str(make(tmp_path, "bert"))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(path)
    tokenizer.backend_tokenizer.normalizer = None
    tokenizer.save_pretrained(path)
    model = SentenceTransformer(modules=[Transformer(path, do_lower_case=wished), Pooling(HIDDEN)], device="cpu")
    texts = open_texts(model, LONGEST, len(model.tokenizer))
    wanted = [model.preprocess([text])["input_ids"][0].tolist() for text in ("BEBE", "bebe")]
    assert (wanted[0] == wanted[1]) == wished
    same_ids(prepare(texts, ["BEBE", "bebe"]), wanted)


def test_a_default_prompt_is_the_one_of_sentence_transformers(tmp_path: Path) -> None:
    """What `encode` puts before a text when it is told nothing."""
    path = str(make(tmp_path, "bert", prompts=PROMPTS))
    model = SentenceTransformer(path, device="cpu", default_prompt_name="query")
    texts = open_texts(model, LONGEST, len(model.tokenizer))
    prompts = ((Options(), PROMPTS["query"]), (Options(prompt=""), ""), (Options(prompt_name="document"), ""))
    for options, prompt in prompts:
        same_ids(
            prepare(texts, ["bebe"], options), [model.preprocess(["bebe"], prompt=prompt)["input_ids"][0].tolist()]
        )


@pytest.mark.parametrize("architecture", ["bert", "roberta", "qwen3"])
def test_tokens_of_a_prompt_are_counted_as_sentence_transformers_counts_them(tmp_path: Path, architecture: str) -> None:
    """With what opens a text and without what closes one; only where the model does not pool its prompts."""
    path = make(tmp_path, architecture, pooling="mean", prompts=PROMPTS, include_prompt=False)
    model = SentenceTransformer(str(path), device="cpu")
    texts = open_texts(model, LONGEST, len(model.tokenizer))
    for prompt in (PROMPTS["query"], "x", "bebe " * 300):
        counted = model.preprocess(["bebe"], prompt=prompt)["prompt_length"]
        assert prepare(texts, ["bebe", [7], "ko"], Options(prompt=prompt)).skips == [counted, 0, counted]
    assert prepare(texts, ["bebe"]).skips is None
    model.set_pooling_include_prompt(True)
    pooled = open_texts(model, LONGEST, len(model.tokenizer))
    assert prepare(pooled, ["bebe"], Options(prompt_name="query")).skips is None


@pytest.mark.parametrize("architecture", ["bert", "roberta", "modernbert"])
def test_pairs_are_those_of_a_cross_encoder(tmp_path: Path, architecture: str) -> None:
    """Ids, types and what is cut, prompt included; documents are texts like any other."""
    model = CrossEncoder(str(make(tmp_path, architecture, "cross", prompts=PROMPTS)), device="cpu")
    texts = open_texts(model, LONGEST, len(model.tokenizer))
    for query, prompt in ((query, prompt) for query in ("", "bebe ko", "bebe " * 300) for prompt in ("", "query: ")):
        (prepared,) = texts.prepare([Ask(ODD, Options(prompt=prompt), query)])
        features = [model.preprocess([(query, text)], prompt=prompt) for text in ODD]
        same_ids(prepared, [feature["input_ids"][0].tolist() for feature in features])
        if "token_type_ids" in features[0]:
            firsts = [int((feature["token_type_ids"][0] == 0).sum()) for feature in features]
            assert prepared.firsts == firsts


def test_types_are_told_only_to_a_model_whose_tokenizer_gives_them(tmp_path: Path) -> None:
    """Some checkpoints of BERT were trained without: `predict` leaves them out, though a pair's template has them."""
    folder = make(tmp_path, "bert", "cross")
    told = json.loads((folder / "tokenizer_config.json").read_text())
    names = {"model_input_names": ["input_ids", "attention_mask"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(told | names))
    model = CrossEncoder(str(folder), device="cpu")
    assert "token_type_ids" not in model.preprocess([("bebe", "ko")])
    (prepared,) = open_texts(model, LONGEST, len(model.tokenizer)).prepare([Ask(["ko"], Options(), "bebe")])
    assert prepared.firsts is None
    engine = load(Model(checkpoint=str(folder), dtype="float32"), "cpu")
    assert engine.facts.path == "packed"
    engine.close()
