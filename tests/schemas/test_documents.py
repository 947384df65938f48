"""Do the generated documents describe what is really sent?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import pytest
from embedmq_schemas import CODES, Names
from embedmq_schemas import headers as h
from embedmq_schemas.documents import asyncapi, json_schema

from docs import generate
from tests.schemas import golden

SCHEMA: dict[str, Any] = json_schema()
ASYNCAPI: dict[str, Any] = asyncapi()


def is_valid(value: Any, entry: str) -> bool:
    validator = jsonschema.Draft202012Validator({**SCHEMA, "anyOf": [{"$ref": f"#/$defs/{entry}"}]})
    return bool(validator.is_valid(value))


def sample(name: str) -> Any:
    return json.loads(golden.read(golden.NEWEST / f"{name}.json"))


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, part in value.items():
            if key == "$ref":
                yield part
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def resolve(document: Any, reference: str) -> Any:
    assert reference.startswith("#/")
    for part in reference.removeprefix("#/").split("/"):
        document = document[part]
    return document


def test_the_json_schema_is_one() -> None:
    """By the rules of its own dialect, with every reference resolved."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for reference in references(SCHEMA):
        resolve(SCHEMA, reference)


@pytest.mark.parametrize("name", golden.REQUESTS)
def test_every_request_is_valid_and_a_misspelt_field_is_not(name: str) -> None:
    """The schema finds the mistake that a worker would refuse."""
    request = sample(name)
    assert is_valid(request, "Request")
    assert not is_valid({**request, "dimension": 256}, "Request")


@pytest.mark.parametrize("name", golden.RESULTS)
def test_every_result_is_valid_also_with_fields_of_a_later_version(name: str) -> None:
    """Results are read tolerantly."""
    result = sample(name)
    assert is_valid(result, "Result")
    assert is_valid({**result, "later": 1}, "Result")


def test_the_catalogue_is_valid() -> None:
    """What other languages read to find topics and limits."""
    assert is_valid(sample("model-entry"), "ModelEntry")
    assert is_valid(sample("worker-status"), "WorkerStatus")
    assert is_valid(sample("stub"), "Stub")


@pytest.mark.parametrize(
    ("request_", "valid"),
    [
        ({"items": ["a"]}, True),
        ({"items": [[1, 2]], "model": None, "reply": None}, True),
        ({"query": "q", "documents": ["a"]}, False),
        ({"items": []}, False),
        ({"items": "a"}, False),
        ({"items": ["a"], "dtype": "float64"}, False),
        ({"items": ["a"], "outputs": ["dence"]}, False),
        ({"items": ["a"], "id": "two words"}, False),
        ({"items": ["a"], "keep_s": -1}, False),
        ({"items": ["a"], "reply": {"topic": "t"}}, False),
        ({"items": ["a"], "reply": {"type": "topic", "topic": "t", "kee": "k"}}, False),
        ({"type": "embd", "items": ["a"]}, False),
    ],
)
def test_the_schema_agrees_with_the_worker(request_: object, valid: bool) -> None:
    """A missing type is `embed`, null is not given, nothing else is guessed."""
    assert is_valid(request_, "Request") == valid


@pytest.mark.parametrize("kind", ["Failed", "Failure"])
def test_every_code_is_explained_in_the_schema(kind: str) -> None:
    """A client sees there which codes to expect."""
    described = SCHEMA["$defs"][kind]["properties"]["code"]["description"]
    assert all(f"`{code}`" in described for code in CODES)


def test_asyncapi_has_what_its_specification_asks_for() -> None:
    """Version, info, channels, operations with actions, and references that lead somewhere."""
    assert ASYNCAPI["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= set(ASYNCAPI["info"])
    for reference in references(ASYNCAPI):
        resolve(ASYNCAPI, reference)
    for operation in ASYNCAPI["operations"].values():
        assert operation["action"] in {"send", "receive"}
        assert operation["channel"]["$ref"].startswith("#/channels/")
    for channel in ASYNCAPI["channels"].values():
        parameters = {part.split("}")[0] for part in (channel["address"] or "").split("{")[1:]}
        assert parameters == set(channel.get("parameters", {}))


def test_asyncapi_names_every_topic_under_the_prefix_of_the_installation() -> None:
    """The addresses are those that workers read and write."""
    addresses = {channel["address"] for channel in asyncapi(Names("acme"))["channels"].values()}  # type: ignore[attr-defined]  # JSON has no types
    assert addresses == {"acme.{model}.{lane}", "acme.shared.{lane}", "acme.dead", None}


def test_asyncapi_tells_where_replies_go_and_how_they_are_matched() -> None:
    """By Spring's headers, which other tools know as well."""
    for name in ("receiveRequests", "receiveSharedRequests"):
        reply = ASYNCAPI["operations"][name]["reply"]
        assert reply["address"]["location"] == "$message.header#/kafka_replyTopic"
        assert resolve(ASYNCAPI, reply["channel"]["$ref"])["address"] is None
    message = ASYNCAPI["components"]["messages"]["embed.json"]
    assert message["correlationId"]["location"] == "$message.header#/kafka_correlationId"


def test_asyncapi_describes_every_type_in_every_codec_it_travels_in() -> None:
    """With its content type, payload and headers."""
    messages = ASYNCAPI["components"]["messages"]
    kinds = ("embed", "score", "embedded", "scored", "failed")
    assert set(messages) == {f"{kind}.{codec}" for kind in kinds for codec in ("json", "msgpack")} | {
        "embed.text",
        "dead",
    }
    assert messages["embed.text"]["contentType"] == "text/plain"
    payload = resolve(ASYNCAPI, messages["failed.json"]["payload"]["$ref"])
    jsonschema.Draft7Validator.check_schema(payload)
    assert set(resolve(ASYNCAPI, messages["dead"]["headers"]["$ref"])["properties"]) > set(h.DEAD_HEADERS)


def test_every_schema_of_asyncapi_is_also_one_of_draft_7() -> None:
    """Which AsyncAPI's own dialect extends, and its tools check by."""
    for schema in ASYNCAPI["components"]["schemas"].values():
        jsonschema.Draft7Validator.check_schema(schema)
    assert "prefixItems" not in json.dumps(ASYNCAPI)


def test_the_generated_files_are_up_to_date() -> None:
    """Whoever changes the wire runs `make docs`."""
    assert sorted(path.name for path in generate.stale(generate.DOCS)) == []


def test_check_lists_what_is_stale_and_writing_heals_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Missing and changed files alike; a check writes nothing."""
    assert generate.main([], tmp_path) == 0
    assert generate.main(["--check"], tmp_path) == 0
    (tmp_path / "asyncapi.json").write_text("{}")
    (tmp_path / "schemas" / "wire.json").unlink()
    capsys.readouterr()
    assert generate.main(["--check"], tmp_path) == 1
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == [
        "docs/schemas/wire.json",
        "docs/asyncapi.json",
    ]
    assert generate.main([], tmp_path) == 0
    assert generate.stale(tmp_path) == {}
    assert generate.main(["--chekc"], tmp_path) == 2
