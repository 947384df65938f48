"""How is the wire described to programs that are not written in Python? JSON Schema and AsyncAPI. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import cleandoc
from typing import Any, Final

import msgspec

from embedmq_schemas import headers as h
from embedmq_schemas.catalogue import ModelEntry, WorkerStatus
from embedmq_schemas.codec import CONTENT_TYPES, Codec
from embedmq_schemas.codes import CODES
from embedmq_schemas.names import ID_LENGTH, TOPIC_PATTERN, Names
from embedmq_schemas.requests import DTYPES, ENCODINGS, LANES, OUTPUTS, Embed, Score
from embedmq_schemas.results import Embedded, Failed, Scored
from embedmq_schemas.stub import Stub

Schema = dict[str, Any]
"""A piece of a JSON document, whose parts have no types but those of JSON."""

VERSION: Final = "1.0.0"
"""Of the wire, not of the package: the first number changes only with an incompatible wire."""

_ID_PATTERN: Final = f"^[A-Za-z0-9._:/-]{{1,{ID_LENGTH}}}$"
_CODES: Final = "One of (later versions may add some): " + "; ".join(
    f"`{code}`: {facts.meaning}" for code, facts in CODES.items()
)
_REQUESTS: Final = ("Embed", "Score")
_RESULTS: Final = ("Embedded", "Scored", "Failed")


def json_schema() -> dict[str, object]:
    """JSON Schema (2020-12) of everything in JSON; `#/$defs/Request` and `#/$defs/Result` are where to enter.

    Requests forbid unknown fields, results do not: a misspelt option must be seen, a later worker must be read.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "EmbedMQ: requests, results, catalogue",
        "description": f"Wire version {VERSION}. In MessagePack the same, with byte strings in place of base64.",
        "anyOf": [{"$ref": "#/$defs/Request"}, {"$ref": "#/$defs/Result"}],
        "$defs": _schemas("#/$defs/"),
    }


def asyncapi(names: Names | None = None) -> dict[str, object]:
    """AsyncAPI 3.0 of the worker: what it receives, what it sends, in which headers."""
    names = names or Names()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "EmbedMQ worker",
            "version": VERSION,
            "description": "Embeddings through Kafka. A client sends where the worker receives, and the reverse.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": CONTENT_TYPES["msgpack"].decode(),
        "channels": _channels(names),
        "operations": _operations(names),
        "components": {
            "schemas": {
                **_schemas("#/components/schemas/"),
                "Text": {"type": "string", "description": "The whole value, UTF-8, is one item."},
                "RequestHeaders": _headers(h.REQUEST_HEADERS),
                "ReplyHeaders": _headers(h.REPLY_HEADERS),
                "DeadHeaders": _headers({**h.REQUEST_HEADERS, **h.DEAD_HEADERS}),
            },
            "messages": _messages(),
        },
    }


def _schemas(prefix: str) -> dict[str, Schema]:
    """Every type by name, as msgspec derives it, with what its types cannot say."""
    _, found = msgspec.json.schema_components(
        (Embed, Score, Embedded, Scored, Failed, ModelEntry, WorkerStatus, Stub), ref_template=prefix + "{name}"
    )
    schemas: dict[str, Schema] = {name: _tidy(schema) for name, schema in found.items()}
    embed = schemas["Embed"]
    embed["required"].remove("type")  # a request without one is an `embed`
    embed["properties"]["items"]["minItems"] = 1
    for field, choices in (("dtype", DTYPES), ("encoding", ENCODINGS)):
        embed["properties"][field]["anyOf"][0]["enum"] = list(choices)
    embed["properties"]["outputs"]["anyOf"][0]["items"]["enum"] = list(OUTPUTS)
    for name in _REQUESTS:
        schemas[name]["properties"]["id"]["anyOf"][0]["pattern"] = _ID_PATTERN
    schemas["StreamReply"]["properties"]["client"]["pattern"] = _ID_PATTERN
    schemas["TopicReply"]["properties"]["topic"]["pattern"] = f"^{TOPIC_PATTERN}$"
    for name in ("Failed", "Failure"):
        schemas[name]["properties"]["code"]["description"] = _CODES
    schemas["Request"] = {"anyOf": [{"$ref": prefix + name} for name in _REQUESTS]}
    schemas["Result"] = {"anyOf": [{"$ref": prefix + name} for name in _RESULTS]}
    return schemas


def _tidy(schema: Any) -> Any:
    """Keep what JSON Schema 2020-12 and AsyncAPI (a dialect of draft 7) read alike; null defaults say nothing."""
    if isinstance(schema, list):
        return [_tidy(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    tidy: Schema = {
        key: _tidy(part)
        for key, part in schema.items()
        if key != "discriminator" and not (key == "default" and part is None)
    }
    if isinstance(tidy.get("description"), str):
        tidy["description"] = cleandoc(tidy["description"])
    if "prefixItems" in tidy:
        tidy["items"] = tidy.pop("prefixItems")[0]
    return tidy


def _headers(meanings: Mapping[str, str]) -> Schema:
    return {
        "type": "object",
        "properties": {name: {"type": "string", "description": meaning} for name, meaning in meanings.items()},
    }


def _messages() -> dict[str, Schema]:
    """One message for each type and codec, named like `embed.json`."""
    messages = {
        f"{name.lower()}.{codec}": _message(name, codec, "RequestHeaders", f"{name} request")
        for name in _REQUESTS
        for codec in _binary_first()
    }
    messages["embed.text"] = _message("Text", "text", "RequestHeaders", "Embed request of one text")
    messages |= {
        f"{name.lower()}.{codec}": _message(name, codec, "ReplyHeaders", f"{name} result")
        for name in _RESULTS
        for codec in _binary_first()
    }
    messages["dead"] = {
        "title": "Dead letter",
        "summary": "A record as it came, value and headers untouched, with the reason in further headers.",
        "headers": {"$ref": "#/components/schemas/DeadHeaders"},
        "payload": {"description": "Any bytes, or null."},
    }
    return messages


def _message(name: str, codec: Codec, headers: str, title: str) -> Schema:
    request = headers == "RequestHeaders"
    key = "the tenant, if any; on a shared topic the model" if request else "`reply.key`, else the request's id"
    return {
        "title": title,
        "contentType": CONTENT_TYPES[codec].decode(),
        "headers": {"$ref": f"#/components/schemas/{headers}"},
        "payload": {"$ref": f"#/components/schemas/{name}"},
        "correlationId": {"location": f"$message.header#/{h.CORRELATION_ID}"},
        "bindings": {"kafka": {"key": {"type": "string", "description": key}, "bindingVersion": "0.5.0"}},
    }


def _binary_first() -> tuple[Codec, Codec]:
    return ("msgpack", "json")


def _channels(names: Names) -> dict[str, Schema]:
    lane: Schema = {"enum": list(LANES), "default": LANES[0], "description": "`bulk` yields to `interactive`."}
    requests = _refer(lambda name: name.startswith(("embed.", "score.")))
    own = names.requests("{model}", "bulk").removesuffix("bulk")
    shared = names.shared("bulk").removesuffix("bulk")
    return {
        "requests": {
            "address": own + "{lane}",
            "description": "The requests of one model and lane.",
            "parameters": {"model": {"description": "Lower-case letters, digits and dashes."}, "lane": lane},
            "messages": requests,
        },
        "sharedRequests": {
            "address": shared + "{lane}",
            "description": "The requests of all models too rare for topics of their own; the record key is the model.",
            "parameters": {"lane": lane},
            "messages": requests,
        },
        "replies": {
            "address": None,
            "description": "The topic that the request names, in `reply.topic` of its body or, failing that, in the "
            f"header `{h.REPLY_TOPIC}`.",
            "messages": _refer(lambda name: name.split(".")[0] in {result.lower() for result in _RESULTS}),
        },
        "dead": {
            "address": names.dead,
            "description": "Records that nobody could answer as asked, or that no repetition would help.",
            "messages": _refer(lambda name: name == "dead"),
        },
    }


def _operations(names: Names) -> dict[str, Schema]:
    groups = [names.group(lane) for lane in LANES]
    binding = {"kafka": {"groupId": {"type": "string", "enum": groups}, "bindingVersion": "0.5.0"}}
    reply = {
        "address": {
            "description": "`reply.topic` in the body comes first. Without either, the result is kept in Redis.",
            "location": f"$message.header#/{h.REPLY_TOPIC}",
        },
        "channel": {"$ref": "#/channels/replies"},
    }
    received = {
        f"receive{channel[0].upper()}{channel[1:]}": {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{channel}"},
            "reply": reply,
            "bindings": binding,
        }
        for channel in ("requests", "sharedRequests")
    }
    return {**received, "sendDead": {"action": "send", "channel": {"$ref": "#/channels/dead"}}}


def _refer(wanted: Callable[[str], bool]) -> dict[str, Schema]:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in _messages() if wanted(name)}
