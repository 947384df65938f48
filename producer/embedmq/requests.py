"""How does a call become a request on the wire?"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TypedDict

from embedmq_schemas.codec import encode_request
from embedmq_schemas.limits import Limits
from embedmq_schemas.requests import Embed, Reply, Request, Score, count_items

from embedmq.errors import InvalidRequest
from embedmq.validation import (
    Items,
    check_address,
    check_count,
    check_embed,
    check_keep,
    check_labels,
    check_switches,
    plain,
    read_items,
    read_model,
    read_query,
    read_text,
    read_texts,
    refuse_unencodable,
)

DENSE = ("dense",)
META_BYTES = Limits().max_meta_bytes


class EmbedOptions(TypedDict, total=False):
    """What may be asked of a request for vectors, by the same names and meanings in every method."""

    outputs: Sequence[str]
    prompt_name: str | None
    prompt: str | None
    dimensions: int | None
    dtype: str
    normalize: bool | None
    truncate: bool
    tenant: str
    revision: str | None
    meta: Mapping[str, str] | None
    item_ids: Sequence[str] | None


class ScoreOptions(TypedDict, total=False):
    """The same for a request for scores."""

    truncate: bool
    tenant: str
    revision: str | None
    meta: Mapping[str, str] | None
    item_ids: Sequence[str] | None


def build_embed(
    model: str,
    items: Items,
    *,
    id: str,
    timeout_s: float | None,
    reply: Reply | None = None,
    keep_s: int | None = None,
    encoding: str = "bytes",
    outputs: Sequence[str] = DENSE,
    prompt_name: str | None = None,
    prompt: str | None = None,
    dimensions: int | None = None,
    dtype: str = "float32",
    normalize: bool | None = None,
    truncate: bool = True,
    tenant: str = "",
    revision: str | None = None,
    meta: Mapping[str, str] | None = None,
    item_ids: Sequence[str] | None = None,
) -> Embed:
    """Check a call and write its request, leaving out what is the wire's default; raises InvalidRequest.

    Model and lane are checked where their route is found. Options are looked at only where they are not the defaults:
    this runs once a request.
    """
    wanted = read_items(items)
    check_address(id, timeout_s)
    if tenant or meta is not None or item_ids is not None:
        check_labels(tenant, meta, item_ids, len(wanted), META_BYTES)
    if outputs is not DENSE or dtype != "float32" or dimensions is not None or encoding != "bytes":
        check_embed(outputs, dimensions, dtype, encoding)
    if normalize is not None or truncate is not True:
        check_switches(normalize, truncate)
    if keep_s is not None:
        check_keep(keep_s)
    return Embed(
        id=id if type(id) is str else plain(id),
        model=model if type(model) is str else read_model(model),
        items=wanted,
        outputs=None if outputs is DENSE or tuple(outputs) == DENSE else [plain(each) for each in outputs],
        prompt_name=None if prompt_name is None else read_text("prompt_name", prompt_name),
        prompt=None if prompt is None else read_text("prompt", prompt),
        dimensions=dimensions,
        dtype=None if dtype == "float32" else plain(dtype),
        normalize=normalize,
        truncate=None if truncate else False,
        encoding=None if encoding == "bytes" else plain(encoding),
        reply=reply,
        keep_s=keep_s,
        deadline_unix_ms=deadline(timeout_s),
        tenant=plain(tenant) if tenant else None,
        revision=None if revision is None else read_text("revision", revision),
        meta=None if meta is None else {plain(key): plain(value) for key, value in meta.items()},
        item_ids=None if item_ids is None else [plain(each) for each in item_ids],
    )


def build_score(
    model: str,
    query: str,
    documents: Sequence[str],
    *,
    id: str,
    timeout_s: float | None,
    reply: Reply | None = None,
    top_n: int | None = None,
    truncate: bool = True,
    tenant: str = "",
    revision: str | None = None,
    meta: Mapping[str, str] | None = None,
    item_ids: Sequence[str] | None = None,
) -> Score:
    """Check a call and write its request; raises InvalidRequest."""
    compared = read_query(query)
    texts = read_texts(documents)
    check_address(id, timeout_s)
    check_labels(tenant, meta, item_ids, len(texts), META_BYTES)
    check_count("top_n", top_n)
    check_switches(None, truncate)
    return Score(
        id=plain(id),
        model=read_model(model),
        query=compared,
        documents=texts,
        top_n=top_n,
        truncate=None if truncate else False,
        reply=reply,
        deadline_unix_ms=deadline(timeout_s),
        tenant=plain(tenant) if tenant else None,
        revision=read_text("revision", revision),
        meta=None if meta is None else {plain(key): plain(value) for key, value in meta.items()},
        item_ids=None if item_ids is None else [plain(each) for each in item_ids],
    )


def deadline(timeout_s: float | None) -> int | None:
    """A time limit as the wire has it: Unix milliseconds."""
    return None if timeout_s is None else int((time.time() + timeout_s) * 1000)


def encode(request: Request) -> bytes:
    """The record's value; raises InvalidRequest naming the text that UTF-8 cannot write."""
    try:
        return encode_request(request)
    except UnicodeEncodeError as error:
        refuse_unencodable(_texts(request), error)


def check_fits(request: Request, value: bytes, limits: Limits) -> None:
    """Refuse what is more than one record's worth; raises InvalidRequest."""
    count = count_items(request)
    if count > limits.max_items:
        raise InvalidRequest(f"items: {count}; one request holds {limits.max_items}: send several")
    if len(value) > limits.max_request_bytes:
        size = f"{len(value)} bytes; one request holds {limits.max_request_bytes}"
        raise InvalidRequest(f"items: {size}: send fewer or shorter ones")


def _texts(request: Request) -> dict[str, object]:
    """Every text of a request, by the name under which its caller knows it."""
    if isinstance(request, Embed):
        texts: dict[str, object] = {
            f"items[{i}]": item for i, item in enumerate(request.items) if isinstance(item, str)
        }
        texts |= {"prompt": request.prompt or "", "prompt_name": request.prompt_name or ""}
    else:
        texts = {f"documents[{i}]": text for i, text in enumerate(request.documents)}
        texts["query"] = request.query
    texts |= {f"meta[{key!r}]": key + value for key, value in (request.meta or {}).items()}
    texts |= {f"item_ids[{i}]": id for i, id in enumerate(request.item_ids or ())}
    return texts | {"revision": request.revision or ""}
