"""How do a query and a document become one row of tokens? The longer is cut first, as cross-encoders were trained."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Encoding

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
    texts = [*dict.fromkeys(query for query, _ in pairs), *(document for _, document in pairs)]
    rows = bounded.encode([("", text) for text in texts], special=False)
    queries = dict(zip(texts, rows[: -len(pairs)], strict=False))
    found: list[Row | None] = []
    for pair, document in zip(pairs, rows[-len(pairs) :], strict=True):
        query = queries[pair[0]]
        found.append(None if query is None or document is None else _join(bounded, query, document, pair))
    return found


def _join(bounded: Bounded, query: Row, document: Row, pair: tuple[str, str]) -> Row | None:
    """Let the tokenizer cut the longer first and add its special tokens."""
    cut = query.cut or document.cut
    one, other = query.encoding, document.encoding
    if cut and len(one) == len(other):  # both fill the model alone: which is the longer decides an odd token
        longer, shorter = (_tokens(bounded, text, row) for text, row in zip(pair, (query, document), strict=True))
        if longer > shorter:
            other.truncate(len(other) - 1, direction=bounded.side)
    joined = bounded.tokenizer.post_process(one, other)
    return Row(joined, cut or bool(joined.overflowing))


def _tokens(bounded: Bounded, text: str, row: Row) -> int:
    """How many tokens a text has, those included that do not fit."""
    encoding: Encoding | None = row.encoding
    if len(text) > bounded.max_characters:
        (encoding,) = bounded.encode_whole([text], special=False)
    return 0 if encoding is None else len(encoding) + tokens_behind(encoding)
