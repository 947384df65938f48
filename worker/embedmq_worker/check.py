"""May this request be computed by this model, within these limits? Pure."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import cast

from embedmq_schemas.envelope import Envelope
from embedmq_schemas.limits import Limits
from embedmq_schemas.requests import DTYPES, ENCODINGS, OUTPUTS, Embed, Request, Score, count_items
from embedmq_schemas.vectors import Dtype

from embedmq_worker.engine.seam import Fault, ModelFacts, Options

MAX_PROMPT_CHARACTERS = 4_096
"""A prompt stands before every item of its request, so a long one would multiply."""
PLAIN = Options()
STRICT = Options(truncate=False)


def check(
    request: Request, envelope: Envelope, facts: ModelFacts, limits: Limits, now_unix_ms: float
) -> Options | Fault:
    """Say how the request is to be computed, or what is wrong with it."""
    fault = (
        _check_kind(request, envelope.model, facts)
        or _check_size(request, limits)
        or _check_answer(envelope, count_items(request), limits)
        or _check_deadline(request, now_unix_ms)
        or _check_revision(request, facts)
    )
    if fault is not None:
        return fault
    return _check_score(request) if isinstance(request, Score) else _check_options(request, facts)


def check_reply_topic(topic: str, prefix: str, allowed: list[str]) -> Fault | None:
    """Whether replies may go to a topic: never to our own, which would let a reply pose as a request."""
    if topic.startswith(prefix + "."):
        return Fault(
            "undeliverable", f"replies may not go to {topic}: topics of the prefix {prefix} are the worker's own"
        )
    if not any(fnmatchcase(topic, pattern) for pattern in allowed):
        return Fault("undeliverable", f"replies may not go to {topic}: the worker's `reply_topics` does not list it")
    return None


def _check_kind(request: Request, model: str, facts: ModelFacts) -> Fault | None:
    if isinstance(request, Score) and not facts.scores:
        return Fault("unsupported", f"{model} embeds; to score, choose a cross-encoder")
    if isinstance(request, Embed) and not facts.outputs:
        return Fault("unsupported", f"{model} is a cross-encoder: it scores, and has no vectors to give")
    return None


def _check_size(request: Request, limits: Limits) -> Fault | None:
    count = count_items(request)
    if count == 0:
        return Fault("malformed", f"`{'items' if isinstance(request, Embed) else 'documents'}` is empty")
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


def _check_deadline(request: Request, now_unix_ms: float) -> Fault | None:
    if request.deadline_unix_ms is not None and request.deadline_unix_ms <= now_unix_ms:
        late = now_unix_ms - request.deadline_unix_ms
        return Fault("deadline_exceeded", f"the deadline had passed {late:.0f} ms before the request was read")
    return None


def _check_revision(request: Request, facts: ModelFacts) -> Fault | None:
    if request.revision is not None and request.revision != facts.revision:
        return Fault("unsupported", f"`revision` {request.revision[:64]!r} is not served here; {facts.revision!r} is")
    return None


def _check_score(request: Score) -> Options | Fault:
    if request.top_n is not None and request.top_n < 1:
        return Fault("malformed", f"`top_n` = {request.top_n}: rank at least one, or leave it out to rank all")
    return PLAIN if request.truncate is not False else STRICT


def _check_options(request: Embed, facts: ModelFacts) -> Options | Fault:
    offered = facts.outputs
    if _is_plain(request) and offered[0] == "dense":
        return PLAIN
    # who asks for nothing in particular gets what the model is there for
    outputs = tuple(request.outputs) if request.outputs is not None else offered[:1]
    if not outputs or not set(outputs) <= set(offered):
        unknown = next((output for output in outputs if output not in OUTPUTS), None)
        wrong = f"unknown output {unknown[:32]!r}" if unknown is not None else "an output this model has not"
        return Fault("unsupported", f"`outputs`: {wrong}; it offers {', '.join(offered)}")
    dtype = "float32" if request.dtype is None else request.dtype
    if dtype not in DTYPES:
        return Fault("unsupported", f"`dtype`: {dtype[:32]!r} is none of {', '.join(DTYPES)}")
    if request.encoding is not None and request.encoding not in ENCODINGS:
        return Fault("unsupported", f"`encoding`: choose one of {', '.join(ENCODINGS)}")
    widths = {"dense": facts.dimensions, "multivector": facts.token_dimensions}
    widest = min((widths[output] for output in outputs if output in widths), default=0)
    if request.dimensions is not None and not 1 <= request.dimensions <= widest:
        has = f"this model has 1 to {widest}" if widest else "sparse vectors have no width to cut"
        return Fault("unsupported", f"`dimensions` = {request.dimensions}: {has}")
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
