"""Which prompt is put before an item's text, and how many of its tokens does the model not pool?"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache

from tokenizers import Tokenizer

from embedmq_worker.engine.seam import Options

MAX_MEASURED = 256
"""Prompts whose length is remembered; callers may make up their own."""


class Prompts:
    """The prompts of one model, and the one that it applies when a request says nothing."""

    def __init__(self, named: Mapping[str, str], default: str | None = None) -> None:
        self._named = named
        self._default = named[default] if default is not None else ""

    def text(self, options: Options) -> str:
        """The prompt of a request; an empty one, said so, is none."""
        if options.prompt is not None:
            return options.prompt
        return self._default if options.prompt_name is None else self._named[options.prompt_name]


class PromptLengths:
    """Of a model that does not pool its prompts: how many leading tokens of a row are one's. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer, special: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self._special = frozenset(special)
        self.measure = lru_cache(MAX_MEASURED)(self._measure)

    def _measure(self, prompt: str) -> int:
        """As sentence-transformers counts: the prompt alone, with what opens a text but not what closes one."""
        ids = self._tokenizer.encode(prompt).ids if prompt else []
        return len(ids) - (1 if ids and ids[-1] in self._special else 0)
