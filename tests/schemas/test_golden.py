"""Do the bytes of every released version still mean what they meant?"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from embedmq_schemas import (
    Embed,
    Embedded,
    Failed,
    ModelEntry,
    Reply,
    Score,
    Scored,
    WorkerStatus,
    decode_request,
    decode_result,
    encode_request,
    encode_result,
    join_results,
    split_results,
)
from embedmq_schemas.catalogue import decode_model, decode_worker, encode
from embedmq_schemas.control import Order, decode_order, encode_order
from embedmq_schemas.stub import Stub, decode_stub, encode_stub

from tests.schemas import golden

SAMPLES = {**golden.REQUESTS, **golden.RESULTS, **golden.STATUS}
FILES = sorted(golden.ALL.glob("v*/*"))


def newest(name: str) -> bytes:
    return golden.read(golden.NEWEST / name)


def decode(path: Path) -> object:
    """Through the functions that workers and clients use."""
    value, name = golden.read(path), path.name.split(".")[0]
    match SAMPLES.get(name):
        case Embed() | Score():
            return decode_request(value, "json" if path.suffix == ".json" else "msgpack")
        case ModelEntry():
            return decode_model(value)
        case WorkerStatus():
            return decode_worker(value)
        case Stub():
            return decode_stub(value)
        case Order():
            return decode_order(value)
        case None:
            return split_results(value)
        case _:
            return decode_result(value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_bytes_of_every_release_decode_to_what_they_meant(path: Path) -> None:
    """Requests, results, entries of a reply stream, the catalogue: for ever."""
    name = path.name.split(".")[0]
    assert decode(path) == (SAMPLES[name] if name in SAMPLES else [golden.RESULTS[part] for part in golden.ENTRY])


@pytest.mark.parametrize("name", golden.REQUESTS)
def test_a_request_is_written_as_these_bytes(name: str) -> None:
    """In both codecs."""
    assert encode_request(golden.REQUESTS[name], "json") == newest(f"{name}.json")
    assert encode_request(golden.REQUESTS[name], "msgpack") == newest(f"{name}.msgpack.hex")


@pytest.mark.parametrize("name", golden.RESULTS)
def test_a_result_is_written_as_these_bytes(name: str) -> None:
    """In both codecs."""
    assert encode_result(golden.RESULTS[name], "json") == newest(f"{name}.json")
    assert encode_result(golden.RESULTS[name], "msgpack") == newest(f"{name}.msgpack.hex")


def test_an_entry_of_a_reply_stream_is_written_as_these_bytes() -> None:
    """One MessagePack array of results that were encoded one by one."""
    entry = join_results([encode_result(golden.RESULTS[name]) for name in golden.ENTRY])
    assert entry == newest("stream-entry.msgpack.hex")


@pytest.mark.parametrize("name", golden.STATUS)
def test_the_catalogue_stubs_and_orders_are_written_as_these_bytes(name: str) -> None:
    """What lies in Redis for programs of other versions."""
    status = golden.STATUS[name]
    match status:
        case Stub():
            written = encode_stub(status)
        case Order():
            written = encode_order(status)
        case _:
            written = encode(status)
    assert written == newest(f"{name}.json")


def test_every_sample_has_its_file_and_every_file_its_sample() -> None:
    """No file lies there that no test reads."""
    assert {path.name for path in golden.NEWEST.iterdir()} == set(golden.encode_all())


def test_every_type_of_the_wire_and_every_field_of_it_has_a_sample() -> None:
    """A field that is added without a sample would be promised to nobody."""
    for kind in (Embed, Score, Embedded, Scored, Failed, *get_args(Reply)):
        fields = {"type"} | {field.encode_name for field in msgspec.structs.fields(kind)}
        seen: set[str] = set()
        for name in (*golden.REQUESTS, *golden.RESULTS):
            value = json.loads(newest(f"{name}.json"))
            for part in (value, value.get("reply")):
                if part and part["type"] == kind.__struct_config__.tag:
                    seen |= {field for field, stated in part.items() if stated is not None}
        assert seen == fields, kind


@pytest.mark.parametrize("name", [*golden.REQUESTS, *golden.RESULTS])
def test_both_codecs_say_the_same(name: str) -> None:
    """Read without our types, MessagePack and JSON differ in nothing but base64 for bytes."""

    def as_json(value: object) -> object:
        if isinstance(value, bytes):
            return base64.b64encode(value).decode("ascii")
        if isinstance(value, dict):
            return {key: as_json(field) for key, field in value.items()}
        return [as_json(field) for field in value] if isinstance(value, list) else value

    assert as_json(msgspec.msgpack.decode(newest(f"{name}.msgpack.hex"))) == json.loads(newest(f"{name}.json"))


def test_the_writer_changes_no_file_that_exists() -> None:
    """So that nobody heals a broken promise by running a command."""
    before = {path: path.read_bytes() for path in golden.NEWEST.iterdir()}
    assert golden.write_missing() == []
    assert {path: path.read_bytes() for path in golden.NEWEST.iterdir()} == before
