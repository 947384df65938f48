"""May this request be computed by this model, within these limits? Pure."""

from __future__ import annotations

import sys
from fnmatch import fnmatchcase
from typing import cast

from embedmq_schemas.envelope import Envelope, Record
from embedmq_schemas.limits import Limits
from embedmq_schemas.requests import DTYPES, ENCODINGS, OUTPUTS, Embed, TopicReply
from embedmq_schemas.vectors import Dtype, row_bytes

from embedmq_worker.engine.seam import Fault, ModelFacts, Options
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
MAX_PROMPT_CHARACTERS = 4_096
"""A prompt stands before every item of its request, so a long one would multiply."""
PLAIN = Options()


def check(request: Embed, envelope: Envelope, facts: ModelFacts, limits: Limits, now_unix_ms: float) -> Options | Fault:
    """Say how the request is to be computed, or what is wrong with it."""
    fault = (
        _check_size(request, limits)
        or _check_answer(envelope, len(request.items), limits)
        or _check_deadline(request, now_unix_ms)
        or _check_revision(request, facts)
    )
    if fault is not None:
        return fault
    return _check_options(request, facts)


def check_reply_topic(topic: str, prefix: str, allowed: list[str]) -> Fault | None:
    """Whether replies may go to a topic: never to our own, which would let a reply pose as a request."""
    if topic.startswith(prefix + "."):
        return Fault(
            "undeliverable", f"replies may not go to {topic}: topics of the prefix {prefix} are the worker's own"
        )
    if not any(fnmatchcase(topic, pattern) for pattern in allowed):
        return Fault("undeliverable", f"replies may not go to {topic}: the worker's `reply_topics` does not list it")
    return None


def items_that_fit(
    request: Embed, options: Options, facts: ModelFacts, envelope: Envelope, limits: Limits
) -> int | None:
    """How many items fit into one reply, when the request has more; None when all do.

    The width of a vector is known before it is computed; base64 takes four bytes for three.
    """
    topic = isinstance(envelope.reply, TopicReply)
    room = (limits.max_topic_reply_bytes if topic else limits.max_stream_reply_bytes) - limits.max_meta_bytes
    fits = max(0, room - RESULT_OVERHEAD_BYTES) // _reply_item_bytes(request, options, facts, envelope)
    return fits if len(request.items) > fits else None


def held_bytes(record: Record) -> int:
    """What holding one record takes, before anything of it is decoded: headers may be larger than the value."""
    size = RECORD_OVERHEAD_BYTES + len(record.value or b"") + len(record.key or b"")
    for name, value in record.headers:
        size += len(name) + len(value or b"")
    return size


def cost(record_bytes: int, request: Embed, options: Options, envelope: Envelope, facts: ModelFacts) -> Cost:
    """What holding the request takes: as it came, decoded, cut into tokens, and as its result. An upper bound."""
    items, longest, count = request.items, facts.max_tokens, len(request.items)
    decoded = count * len(options.prompt) if options.prompt else 0
    tokens = 0
    for item in items:
        decoded += sys.getsizeof(item) if isinstance(item, str) else len(item) * ID_BYTES
        tokens += min(len(item) + SPECIAL_TOKENS, longest)
    ids = tokens * TOKEN_BYTES if facts.tokenizes else 0
    width = options.dimensions or facts.dimensions
    row = width * NUMBER_BYTES if _as_rows(request, envelope) else row_bytes(options.dtype, width) * RESULT_COPIES
    return Cost(record_bytes + decoded + ids + count * (row + ITEM_OVERHEAD_BYTES), count, tokens)


def _check_size(request: Embed, limits: Limits) -> Fault | None:
    count = len(request.items)
    if count == 0:
        return Fault("malformed", "`items` is empty")
    if count > limits.max_items:
        return Fault("too_large", f"{count} items exceed the {limits.max_items} that one request may hold: split it")
    return None


def _check_answer(envelope: Envelope, count: int, limits: Limits) -> Fault | None:
    """What goes back untouched must be small and fit the items."""
    if envelope.item_ids is not None and len(envelope.item_ids) != count:
        return Fault("malformed", f"{len(envelope.item_ids)} `item_ids` for {count} items")
    if envelope.meta is not None:
        size = sum(len(key.encode()) + len(value.encode()) for key, value in envelope.meta.items())
        if size > limits.max_meta_bytes:
            return Fault("too_large", f"{size} bytes of `meta` exceed {limits.max_meta_bytes}")
    return None


def _check_deadline(request: Embed, now_unix_ms: float) -> Fault | None:
    if request.deadline_unix_ms is not None and request.deadline_unix_ms <= now_unix_ms:
        late = now_unix_ms - request.deadline_unix_ms
        return Fault("deadline_exceeded", f"the deadline had passed {late:.0f} ms before the request was read")
    return None


def _check_revision(request: Embed, facts: ModelFacts) -> Fault | None:
    if request.revision is not None and request.revision != facts.revision:
        return Fault("unsupported", f"`revision` {request.revision[:64]!r} is not served here; {facts.revision!r} is")
    return None


def _check_options(request: Embed, facts: ModelFacts) -> Options | Fault:
    if _is_plain(request):
        return PLAIN
    outputs = tuple(request.outputs) if request.outputs is not None else ("dense",)
    offered = facts.outputs
    if not outputs or not set(outputs) <= set(offered):
        unknown = next((output for output in outputs if output not in OUTPUTS), None)
        wrong = f"unknown output {unknown[:32]!r}" if unknown is not None else "an output this model has not"
        return Fault("unsupported", f"`outputs`: {wrong}; it offers {', '.join(offered)}")
    dtype = "float32" if request.dtype is None else request.dtype
    if dtype not in DTYPES:
        return Fault("unsupported", f"`dtype`: {dtype[:32]!r} is none of {', '.join(DTYPES)}")
    if request.encoding is not None and request.encoding not in ENCODINGS:
        return Fault("unsupported", f"`encoding`: choose one of {', '.join(ENCODINGS)}")
    if request.dimensions is not None and not 1 <= request.dimensions <= facts.dimensions:
        return Fault("unsupported", f"`dimensions` = {request.dimensions}: this model has 1 to {facts.dimensions}")
    if request.prompt_name is not None and request.prompt_name not in facts.prompts:
        known = ", ".join(facts.prompts) or "none"
        return Fault("unsupported", f"`prompt_name`: unknown to this model, which has {known}")
    if request.prompt is not None and len(request.prompt) > MAX_PROMPT_CHARACTERS:
        return Fault("unsupported", f"`prompt` of {len(request.prompt)} characters: at most {MAX_PROMPT_CHARACTERS}")
    if request.prompt_name is not None and request.prompt is not None:
        return Fault("unsupported", "`prompt_name` and `prompt` exclude each other")
    return Options(
        outputs=outputs,
        prompt_name=request.prompt_name,
        prompt=request.prompt,
        dimensions=request.dimensions,
        dtype=cast("Dtype", dtype),
        normalize=request.normalize,
        truncate=request.truncate is not False,
    )


def _is_plain(request: Embed) -> bool:
    """Whether no option is given, as in most requests: there is nothing to check then."""
    return (
        request.outputs is None
        and request.dtype is None
        and request.encoding is None
        and request.dimensions is None
        and request.prompt_name is None
        and request.prompt is None
        and request.normalize is None
        and request.truncate is None
    )


def _reply_item_bytes(request: Embed, options: Options, facts: ModelFacts, envelope: Envelope) -> int:
    width = options.dimensions or facts.dimensions
    if _as_rows(request, envelope):
        size = (row_bytes(options.dtype, width) if options.dtype == "ubinary" else width) * DIGITS
    elif envelope.codec == "json":
        size = -(-row_bytes(options.dtype, width) * 4 // 3) + 4
    else:
        size = row_bytes(options.dtype, width)
    scale = DIGITS if options.dtype == "int8" else 0
    longest = max(map(len, envelope.item_ids)) * ESCAPED_BYTES if envelope.item_ids else 0
    return size + scale + ITEM_OVERHEAD_BYTES + longest


def _as_rows(request: Embed, envelope: Envelope) -> bool:
    return envelope.codec == "text" or request.encoding == "array"
