"""How much does holding one request take, and how much its answer? Pure."""

from __future__ import annotations

import sys

from embedmq_schemas.envelope import Envelope, Record
from embedmq_schemas.limits import Limits
from embedmq_schemas.requests import Embed, Request, Score, TopicReply, count_items
from embedmq_schemas.vectors import row_bytes

from embedmq_worker.engine.seam import ModelFacts, Options
from embedmq_worker.jobs import Cost

RECORD_OVERHEAD_BYTES = 2_048
"""What the objects of one request take besides its content, measured with requests of one short text."""
RESULT_OVERHEAD_BYTES = 512
ITEM_OVERHEAD_BYTES = 16
ID_BYTES = 40
"""What one token id takes in a Python list: the pointer and the integer."""
NUMBER_BYTES = 104
"""What one number of an `array` takes: a float and the pointer to it, then its digits in as many copies as below."""
RESULT_COPIES = 4
"""How often a result is held while it is delivered: as computed, encoded, in its entry, in the socket's buffer."""
TOKEN_BYTES = 4
DIGITS = 24
"""Most bytes of one number in JSON: 17 significant digits, sign, point, exponent, comma."""
ESCAPED_BYTES = 6
"""Most bytes of one character in JSON, as in `\\u0000`."""
SPECIAL_TOKENS = 2
PAIR_TOKENS = 4
SPARSE_ENTRIES = 512
"""How many weights a sparse vector is taken to have until it is computed; what exceeds a reply then fails then."""
SPARSE_ENTRY_BYTES = 2 * DIGITS
BLOCK_BYTES = 96
"""What stands around the numbers of one item's vectors in a reply."""


def held_bytes(record: Record) -> int:
    """What holding one record takes, before anything of it is decoded: headers may be larger than the value."""
    size = RECORD_OVERHEAD_BYTES + len(record.value or b"") + len(record.key or b"")
    for name, value in record.headers:
        size += len(name) + len(value or b"")
    return size


def cost(record_bytes: int, request: Request, options: Options, envelope: Envelope, facts: ModelFacts) -> Cost:
    """What holding the request takes: as it came, decoded, cut into tokens, and as its result. An upper bound."""
    count = count_items(request)
    if isinstance(request, Score):
        decoded, tokens = _pairs(request, facts.max_tokens)
    else:
        decoded, tokens = _items(request, options, facts.max_tokens)
    ids = tokens * TOKEN_BYTES if facts.tokenizes else 0
    result = count * ITEM_OVERHEAD_BYTES
    if _as_rows(request, envelope):
        result += _numbers(request, options, facts, tokens) * NUMBER_BYTES
    else:
        result += _answer_bytes(request, options, facts, tokens) * RESULT_COPIES
    return Cost(record_bytes + decoded + ids + result, count, tokens)


def items_that_fit(
    request: Request, options: Options, facts: ModelFacts, envelope: Envelope, limits: Limits, tokens: int = 0
) -> int | None:
    """How many items fit into one reply, when the request has more; None when all do.

    The width of a vector is known before it is computed; base64 takes four bytes for three. Vectors of each token are
    counted once `tokens`, all of the request's, are known.
    """
    count = count_items(request)
    if count == 0:
        return None
    topic = isinstance(envelope.reply, TopicReply)
    room = (limits.max_topic_reply_bytes if topic else limits.max_stream_reply_bytes) - limits.max_meta_bytes
    if _as_rows(request, envelope):
        size = _numbers(request, options, facts, tokens) * DIGITS
    else:
        size = _answer_bytes(request, options, facts, tokens)
        size = -(-size * 4 // 3) if envelope.codec == "json" else size
    if options.dtype == "int8" and isinstance(request, Embed):
        size += DIGITS * _rows(options, count, tokens)
    longest = max(map(len, envelope.item_ids)) * ESCAPED_BYTES if envelope.item_ids else 0
    each = -(-size // count) + ITEM_OVERHEAD_BYTES + longest
    fits = max(0, room - RESULT_OVERHEAD_BYTES) // each
    return fits if count > fits else None


def fewer_that_fit(count: int, size_bytes: int, limit_bytes: int) -> int:
    """How many of `count` items would have fitted, by the size that all of them turned out to take."""
    return min(count - 1, (limit_bytes - RESULT_OVERHEAD_BYTES) * count // max(1, size_bytes) * 9 // 10)


def _items(request: Embed, options: Options, longest: int) -> tuple[int, int]:
    """Decoded bytes and tokens."""
    decoded = len(request.items) * len(options.prompt) if options.prompt else 0
    tokens = 0
    for item in request.items:
        decoded += sys.getsizeof(item) if isinstance(item, str) else len(item) * ID_BYTES
        tokens += min(len(item) + SPECIAL_TOKENS, longest)
    return decoded, tokens


def _pairs(request: Score, longest: int) -> tuple[int, int]:
    """The query is cut into tokens with each of the documents."""
    query = len(request.query)
    decoded = sys.getsizeof(request.query) + sum(map(sys.getsizeof, request.documents))
    return decoded, sum(min(query + len(text) + PAIR_TOKENS, longest) for text in request.documents)


def _rows(options: Options, count: int, tokens: int) -> int:
    """How many vectors."""
    return ("dense" in options.outputs) * count + ("multivector" in options.outputs) * tokens


def _answer_bytes(request: Request, options: Options, facts: ModelFacts, tokens: int) -> int:
    """The numbers of all items as they are on the wire, without what an encoding adds."""
    count = count_items(request)
    if isinstance(request, Score):
        return count * DIGITS
    size = 0
    if "dense" in options.outputs:
        size += count * row_bytes(options.dtype, options.dimensions or facts.dimensions)
    if "sparse" in options.outputs:
        size += count * SPARSE_ENTRIES * SPARSE_ENTRY_BYTES
    if "multivector" in options.outputs:
        width = options.dimensions or facts.token_dimensions
        size += count * BLOCK_BYTES + tokens * row_bytes(options.dtype, width)
    return size


def _numbers(request: Request, options: Options, facts: ModelFacts, tokens: int) -> int:
    """How many numbers all items have, written as digits."""
    count = count_items(request)
    if isinstance(request, Score):
        return count
    packed = options.dtype == "ubinary"
    numbers = 0
    if "dense" in options.outputs:
        width = options.dimensions or facts.dimensions
        numbers += count * (row_bytes("ubinary", width) if packed else width)
    if "sparse" in options.outputs:
        numbers += count * SPARSE_ENTRIES * 2
    if "multivector" in options.outputs:
        width = options.dimensions or facts.token_dimensions
        numbers += tokens * (row_bytes("ubinary", width) if packed else width) + count * BLOCK_BYTES // DIGITS
    return numbers


def _as_rows(request: Request, envelope: Envelope) -> bool:
    return envelope.codec == "text" or (isinstance(request, Embed) and request.encoding == "array")
