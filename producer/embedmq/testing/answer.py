"""What would a worker answer to a request? Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from embedmq_schemas.codes import Code, find
from embedmq_schemas.requests import Embed, Item, Request, Score
from embedmq_schemas.results import Embedded, Failed, Failure, Result, Scored, Sparse, Tensor

from embedmq.testing.model import FakeModel
from embedmq.testing.vectors import Floats, dense, finish, multivector, sparse, words_of

SCORE_DIMENSIONS = 384


def failed(request: Request, code: Code, message: str) -> Failed:
    """The failure of a whole request."""
    facts = find(code)
    return Failed(
        id=request.id or "",
        model=request.model or "",
        code=code,
        message=message,
        retryable=facts is not None and facts.retryable,
        meta=request.meta,
        item_ids=request.item_ids,
    )


def answer(request: Request, model: FakeModel, failures: Mapping[int, Failure]) -> Result:
    """Vectors or scores, except for the items that fail."""
    reason = model.refusal(request)
    if reason is not None:
        return failed(request, "unsupported", reason)
    return _scored(request, model, failures) if isinstance(request, Score) else _embedded(request, model, failures)


def _embedded(request: Embed, model: FakeModel, failures: Mapping[int, Failure]) -> Embedded:
    prompt = request.prompt or model.prompts.get(request.prompt_name or "", "")
    items: list[Item] = [prompt + item if isinstance(item, str) else item for item in request.items]
    words = [words_of(item) for item in items]
    found = {**_too_long([len(each) for each in words], request, model), **failures}
    cut = [each[: model.max_tokens] for each in words]
    outputs = request.outputs or model.outputs[:1]
    rows = [dense(request.model or "", item, each, model.dimensions) for item, each in zip(items, cut, strict=True)]
    return Embedded(
        id=request.id or "",
        model=request.model or "",
        revision=model.revision,
        computed_in="float32",
        count=len(items),
        dense=_tensor(np.stack(rows), request) if "dense" in outputs else None,
        sparse=[Sparse([], []) if i in found else sparse(each) for i, each in enumerate(cut)]
        if "sparse" in outputs
        else None,
        multivector=[
            _tensor(multivector(request.model or "", [] if i in found else each, model.dimensions), request)
            for i, each in enumerate(cut)
        ]
        if "multivector" in outputs
        else None,
        failures=[found[i] for i in sorted(found)],
        tokens=[0 if i in found else len(each) for i, each in enumerate(cut)],
        truncated=[i for i, each in enumerate(words) if len(each) > model.max_tokens and i not in found],
        meta=request.meta,
        item_ids=request.item_ids,
    )


def _scored(request: Score, model: FakeModel, failures: Mapping[int, Failure]) -> Scored:
    name = request.model or ""
    query = _unit(name, request.query)
    asked = len(words_of(request.query))
    lengths = [asked + len(words_of(text)) for text in request.documents]
    found = {**_too_long(lengths, request, model), **failures}
    scores = [
        None if i in found else max(0.0, float(query @ _unit(name, text))) for i, text in enumerate(request.documents)
    ]
    ranked = sorted((-score, i) for i, score in enumerate(scores) if score is not None)
    return Scored(
        id=request.id or "",
        model=name,
        revision=model.revision,
        computed_in="float32",
        count=len(scores),
        scores=scores,
        ranking=[i for _, i in ranked][: request.top_n],
        failures=[found[i] for i in sorted(found)],
        tokens=[0 if i in found else min(length, model.max_tokens) for i, length in enumerate(lengths)],
        truncated=[i for i, length in enumerate(lengths) if length > model.max_tokens and i not in found],
        meta=request.meta,
        item_ids=request.item_ids,
    )


def _tensor(rows: Floats, request: Embed) -> Tensor:
    return finish(rows, request.dimensions, request.dtype or "float32", normalize=request.normalize is not False)


def _unit(model: str, text: str) -> Floats:
    row = dense(model, text, words_of(text), SCORE_DIMENSIONS)
    return row / np.float32(np.linalg.norm(row))


def _too_long(lengths: Sequence[int], request: Request, model: FakeModel) -> dict[int, Failure]:
    """The items that are not to be cut, and are longer than the model reads."""
    if request.truncate is not False:
        return {}
    message = f"more than the model's {model.max_tokens} tokens: shorten it"
    return {i: Failure(i, "too_long", message) for i, length in enumerate(lengths) if length > model.max_tokens}
