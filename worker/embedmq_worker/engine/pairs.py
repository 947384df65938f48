"""How do a query and a document become one row of tokens? The longer is cut first, as cross-encoders were trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from embedmq_worker.engine.bounded import Bounded, Row, tokens_behind


def encode_pairs(bounded: Bounded, pairs: Sequence[tuple[str, str]]) -> list[Row | None]:
    """Tokenize pairs of query (prompt included) and document; None where there is no Unicode.

    Pairs of ordinary length are done together. Of long ones, a tokenizer would combine every part of the query that it
    cuts off with every part of the document: those are done side by side, and joined when they have been cut.
    """
    ordinary = [len(query) <= bounded.max_tokens and len(text) <= bounded.max_characters for query, text in pairs]
    together = [pair for pair, short in zip(pairs, ordinary, strict=True) if short]
    rows = iter([bounded.row(encoding) for encoding in bounded.encode_whole(together)])
    if len(together) == len(pairs):
        return list(rows)
    apart = iter(_side_by_side(bounded, [pair for pair, short in zip(pairs, ordinary, strict=True) if not short]))
    return [next(rows) if short else next(apart) for short in ordinary]


def _side_by_side(bounded: Bounded, pairs: Sequence[tuple[str, str]]) -> list[Row | None]:
    queries = list(dict.fromkeys(query for query, _ in pairs))
    rows = bounded.encode([("", text) for text in (*queries, *(document for _, document in pairs))], special=False)
    sides = {query: _Side(bounded, query, row) for query, row in zip(queries, rows, strict=False)}
    return [
        _join(bounded, sides[query], _Side(bounded, document, row))
        for (query, document), row in zip(pairs, rows[len(queries) :], strict=True)
    ]


class _Side:
    """One text of a pair, without special tokens, cut to what the model takes of one alone."""

    def __init__(self, bounded: Bounded, text: str, row: Row | None) -> None:
        self._bounded, self._text, self.row = bounded, text, row

    @cached_property
    def tokens(self) -> int:
        """How many it has, those included that do not fit: of a text that was cut by characters, counted whole."""
        encoding = None if self.row is None else self.row.encoding
        if len(self._text) > self._bounded.max_characters:
            (encoding,) = self._bounded.encode_whole([self._text], special=False)
        return 0 if encoding is None else len(encoding) + tokens_behind(encoding)


def _join(bounded: Bounded, query: _Side, document: _Side) -> Row | None:
    """Let the tokenizer cut the longer first and add its special tokens."""
    if query.row is None or document.row is None:
        return None
    one, other = query.row.encoding, document.row.encoding
    cut = query.row.cut or document.row.cut
    odd = (bounded.max_tokens - bounded.tokenizer.num_special_tokens_to_add(is_pair=True)) % 2
    # where both fill the model alone, they look equally long, and the odd token is the longer one's
    if cut and odd and len(one) == len(other) and query.tokens > document.tokens:
        other.truncate(len(other) - 1, direction=bounded.side)
    joined = bounded.tokenizer.post_process(one, other)
    return Row(joined, cut or bool(joined.overflowing))
