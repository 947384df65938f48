"""How do texts become token ids, and which of them were cut?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import numpy as np
from embedmq_schemas.requests import Item
from tokenizers import Encoding, Tokenizer

from embedmq_worker.engine.seam import Ask, Fault, Ids, Options, Prepared

CHARACTERS_PER_TOKEN = 16
"""Texts are cut at this many characters per token first, so that a whole book costs no more than a page."""

SETTLED_TOKENS = 128
"""A cut text is trusted when this many tokens lie behind the last one kept: no tokenizer makes more of one word."""

NO_IDS: Ids = np.empty(0, np.int32)


class Texts:
    """One model's tokenizer, with its prompts. Thread-safe: the tokenizer's state is set once."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int, vocabulary: int, prompts: Mapping[str, str]) -> None:
        tokenizer.enable_truncation(max_tokens)
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._max_characters = max_tokens * CHARACTERS_PER_TOKEN
        self._vocabulary = vocabulary
        self._prompts = prompts

    def prepare(self, asks: Sequence[Ask]) -> list[Prepared]:
        """Tokenize the texts of many requests in one call, since one call per text costs half as much again."""
        texts = [(self._prompt(ask.options), item) for ask in asks for item in ask.items if isinstance(item, str)]
        encodings = iter(self._encode(texts))
        return [self._prepare(ask.items, ask.options, encodings) for ask in asks]

    def _prompt(self, options: Options) -> str:
        if options.prompt is not None:
            return options.prompt
        return self._prompts[options.prompt_name] if options.prompt_name is not None else ""

    def _encode(self, texts: list[tuple[str, str]]) -> list[tuple[Encoding, bool]]:
        """Ids of prompts with their texts, and whether they were cut.

        Where so few tokens lie behind the last one kept that the cut by characters may have changed it (a word that
        was cut in two is another word), the text is done again, whole.
        """
        limit = self._max_characters
        encodings = self._tokenizer.encode_batch_fast([(prompt + text[:limit])[:limit] for prompt, text in texts])
        done: list[tuple[Encoding, bool]] = []
        for (prompt, text), encoding in zip(texts, encodings, strict=True):
            whole = encoding
            if len(prompt) + len(text) > limit and _tokens_behind(encoding) < SETTLED_TOKENS:
                whole = self._tokenizer.encode_batch_fast([prompt + text])[0]
            done.append((whole, len(whole.ids) >= self._max_tokens and bool(whole.overflowing)))
        return done

    def _prepare(self, items: Sequence[Item], options: Options, encodings: Iterator[tuple[Encoding, bool]]) -> Prepared:
        prepared = Prepared([], [], [], {})
        for index, item in enumerate(items):
            ids, cut = self._ids(item, encodings)
            fault = ids if isinstance(ids, Fault) else None
            if cut and not options.truncate:
                fault = Fault(
                    "too_long", f"item {index} has more than the model's {self._max_tokens} tokens: shorten it"
                )
            elif cut:
                prepared.truncated.append(index)
            if fault is not None:
                prepared.faults[index] = fault
            kept = NO_IDS if isinstance(ids, Fault) or fault is not None else ids
            prepared.tokens.append(len(kept))
            cast("list[Ids]", prepared.ids).append(kept)
        return prepared

    def _ids(self, item: Item, encodings: Iterator[tuple[Encoding, bool]]) -> tuple[Ids | Fault, bool]:
        if isinstance(item, str):
            encoding, cut = next(encodings)
            return np.array(encoding.ids, np.int32), cut
        if not item or min(item) < 0 or max(item) >= self._vocabulary:
            return Fault("malformed", f"token ids must be 0 to {self._vocabulary - 1}, at least one"), False
        return np.array(item[: self._max_tokens], np.int32), len(item) > self._max_tokens


def _tokens_behind(encoding: Encoding) -> int:
    """How many tokens did not fit."""
    return sum(len(rest.ids) for rest in encoding.overflowing)
