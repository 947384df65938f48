"""How do texts become token ids, which of them were cut, and which cannot be tokenized?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from tokenizers import Tokenizer

from embedmq_worker.engine.bounded import Bounded, Row, Side
from embedmq_worker.engine.pairs import encode_pairs
from embedmq_worker.engine.prompts import PromptLengths, Prompts
from embedmq_worker.engine.seam import Ask, Fault, Ids, Prepared

NO_IDS: Ids = np.empty(0, np.int32)

NO_UNICODE = Fault("malformed", "half of a surrogate pair is no character: send the text as valid Unicode")

NO_VECTOR = Fault("malformed", "the text names a special token that this model has no vector for: leave it out")

NO_TOKENS = Fault("malformed", "this model's tokenizer makes no tokens of it")


class Texts:
    """One model's tokenizer, with its prompts. Thread-safe."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        max_tokens: int,
        vocabulary: int,
        prompts: Mapping[str, str],
        *,
        default_prompt: str | None = None,
        unpooled_but: Collection[int] | None = None,
        side: Side = "right",
        typed: bool = True,
    ) -> None:
        """Set the tokenizer's state, once.

        Args:
            tokenizer: This one's own: others must not change its state.
            max_tokens: Most of one row, special ones included.
            vocabulary: Token ids below this one are known.
            prompts: By name.
            default_prompt: Name of the one for requests that name none.
            unpooled_but: Of a model that does not pool its prompts: its special tokens, which no prompt ends with.
            side: Which end of a long text is cut off.
            typed: Whether the model is told which tokens of a pair are the query's.
        """
        self._bounded = Bounded(tokenizer, max_tokens, side)
        self._vocabulary, self._typed = vocabulary, typed
        # of images, say; looked up all the same, one would be read from beyond the table, which ends a GPU's process
        self._knows_more = 0 < vocabulary <= max(tokenizer.get_vocab().values(), default=0)
        self._prompts = Prompts(prompts, default_prompt)
        self._lengths = None if unpooled_but is None else PromptLengths(tokenizer, unpooled_but)

    def prepare(self, asks: Sequence[Ask]) -> list[Prepared]:
        """Tokenize the texts of many requests in one call, since one call per text costs half as much again."""
        prompts = [self._prompts.text(ask.options) for ask in asks]
        texts: list[tuple[str, str]] = []
        pairs: list[tuple[str, str]] = []
        for ask, prompt in zip(asks, prompts, strict=True):
            kind, before = (texts, prompt) if ask.query is None else (pairs, prompt + ask.query)
            kind += [(before, item) for item in ask.items if isinstance(item, str)]
        singles = iter(self._bounded.encode(texts) if texts else [])
        doubles = iter(encode_pairs(self._bounded, pairs) if pairs else [])
        return [
            self._prepare(ask, prompt, singles if ask.query is None else doubles)
            for ask, prompt in zip(asks, prompts, strict=True)
        ]

    def _prepare(self, ask: Ask, prompt: str, rows: Iterator[Row | None]) -> Prepared:
        tokens: list[int] = []
        ids: list[Ids] = []
        firsts: list[int] = []
        truncated: list[int] = []
        faults: dict[int, Fault] = {}
        for index, item in enumerate(ask.items):
            first = 0
            if isinstance(item, str):
                row = next(rows)
                found = self._read(row)
                cut = row is not None and row.cut
                if row is not None and ask.query is not None:
                    first = _first(row.encoding.type_ids)
            else:
                found, cut = self._given(item)
            if isinstance(found, Fault):
                faults[index], found = found, NO_IDS
            elif cut and not ask.options.truncate:
                faults[index], found = self._too_long(), NO_IDS
            elif not len(found):
                faults[index] = NO_TOKENS
            elif cut:
                truncated.append(index)
            tokens.append(len(found))
            ids.append(found)
            firsts.append(first if len(found) else 0)
        return Prepared(
            tokens,
            ids,
            truncated,
            faults,
            firsts=firsts if ask.query is not None and self._typed else None,
            skips=self._skips(ask, prompt),
        )

    def _read(self, row: Row | None) -> Ids | Fault:
        if row is None:
            return NO_UNICODE
        ids: Ids = np.array(row.encoding.ids, np.int32)
        return NO_VECTOR if self._knows_more and ids.max(initial=0) >= self._vocabulary else ids

    def _given(self, item: Sequence[int]) -> tuple[Ids | Fault, bool]:
        """Token ids, of one who tokenizes alone and has added the special ones."""
        if not item or min(item) < 0 or max(item) >= self._vocabulary:
            return Fault("malformed", f"token ids must be 0 to {self._vocabulary - 1}, at least one"), False
        most = self._bounded.max_tokens
        kept = item[:most] if self._bounded.side == "right" else item[-most:]
        return np.array(kept, np.int32), len(item) > most

    def _too_long(self) -> Fault:
        return Fault("too_long", f"more than the model's {self._bounded.max_tokens} tokens: shorten it")

    def _skips(self, ask: Ask, prompt: str) -> list[int] | None:
        if self._lengths is None or not prompt:
            return None
        try:
            skip = self._lengths.measure(prompt)
        except TypeError:  # no Unicode: every text has its fault
            return None
        return [skip if isinstance(item, str) else 0 for item in ask.items]


def _first(types: list[int]) -> int:
    """How many leading tokens are of type 0: the query's."""
    return types.index(1) if 1 in types else len(types)
