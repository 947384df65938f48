"""Is the page for other languages true?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from embedmq_schemas import (
    CODES,
    Embed,
    Embedded,
    Failed,
    Limits,
    Names,
    Score,
    Scored,
    StreamReply,
    Tensor,
    TopicReply,
    decode_request,
    decode_result,
    encode_result,
    join_results,
    split_results,
)
from embedmq_schemas import headers as h
from embedmq_schemas.catalogue import (
    CATALOGUE_TTL_S,
    STATUS_PERIOD_S,
    STATUS_TTL_S,
    ModelEntry,
    WorkerStatus,
    decode_model,
    decode_worker,
)
from embedmq_schemas.environment import SHORT, overrides
from embedmq_schemas.names import RESERVED_SLUGS, STREAM_FIELD
from embedmq_schemas.requests import DTYPES, ENCODINGS, ITEMS_CEILING, OUTPUTS
from embedmq_schemas.stub import COMPLETED, STUB_MARGIN_S, decode_stub, encode_stub
from embedmq_schemas.vectors import to_array

from tests.schemas.records import make_record, refuse

PAGE = (Path(__file__).parents[2] / "docs" / "wire.md").read_text("utf-8")
SAMPLES: list[tuple[str, str]] = re.findall(r"^```(\w+ [\w ]+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def samples(kind: str) -> list[bytes]:
    found = [text.encode() for label, text in SAMPLES if label == kind]
    assert found, kind
    return found


def table(heading: str) -> list[list[str]]:
    """The rows of the table whose first column has this heading."""
    head = next(line for line in PAGE.splitlines() if line.startswith(f"| {heading} |"))
    lines = PAGE[PAGE.index(head) :].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def first_column(heading: str) -> list[str]:
    return [row[0].strip("`") for row in table(heading)]


def test_every_sample_is_of_a_kind_that_a_test_reads() -> None:
    """No fenced block is there just for show."""
    kinds = {"json request", "json result", "json model", "json worker", "json entry", "hex entry", "json stub"}
    assert {label for label, _ in SAMPLES} == kinds | {"json refused malformed", "json refused unsupported"}
    assert len(SAMPLES) == PAGE.count("\n```") // 2


def test_the_requests_on_the_page_are_requests() -> None:
    """Each decodes strictly; the full one shows every field."""
    requests = [decode_request(text, "json") for text in samples("json request")]
    assert {type(request) for request in requests} == {Embed, Score}
    assert set(msgspec.json.decode(samples("json request")[1])) == {"type", *Embed.__struct_fields__}


@pytest.mark.parametrize("code", ["malformed", "unsupported"])
def test_the_broken_requests_on_the_page_are_refused_as_it_says(code: str) -> None:
    """With the code, and answered under their id."""
    for text in samples(f"json refused {code}"):
        refusal = refuse(make_record(raw=text))
        assert (refusal.code, refusal.envelope.id) == (code, "id-1")


def test_the_results_on_the_page_are_results_with_every_field_known() -> None:
    """Their tensors fit their shapes, and no field is of the page alone."""
    results = [decode_result(text) for text in samples("json result")]
    assert {type(result) for result in results} == {Embedded, Scored, Failed}
    for text, result in zip(samples("json result"), results, strict=True):
        written = msgspec.json.decode(encode_result(result, "json"))
        stated = msgspec.json.decode(text)
        assert {**written, **stated} == written
        if isinstance(result, Embedded):
            for tensor in [result.dense, *(result.multivector or [])]:
                assert tensor is not None
                assert to_array(tensor).shape == tensor.shape


def test_the_entry_on_the_page_is_what_a_worker_would_write() -> None:
    """The bytes, and what they say."""
    entry = bytes.fromhex(samples("hex entry")[0].decode())
    results = split_results(entry)
    assert join_results([encode_result(result) for result in results]) == entry
    assert msgspec.msgpack.decode(entry) == msgspec.json.decode(samples("json entry")[0])
    assert f"Each entry has one field, `{STREAM_FIELD.decode()}`" in PAGE


def test_the_catalogue_on_the_page_is_one() -> None:
    """With every field of ours, the default limits, and the periods."""
    (model,), (worker,) = samples("json model"), samples("json worker")
    assert decode_model(model).limits == Limits()
    assert set(msgspec.json.decode(model)) == set(ModelEntry.__struct_fields__)
    assert set(msgspec.json.decode(worker)) == set(WorkerStatus.__struct_fields__)
    assert decode_worker(worker).models["minilm"].wait_s["bulk"] == 3.5
    assert f"it lives {CATALOGUE_TTL_S} s" in PAGE.replace("\n", " ")
    assert f"every {STATUS_PERIOD_S} s `embedmq:worker:<id>` (it lives {STATUS_TTL_S} s)" in PAGE.replace("\n", " ")


def test_the_stub_on_the_page_is_one() -> None:
    """With every field, and both states."""
    (text,) = samples("json stub")
    assert encode_stub(decode_stub(text)) == msgspec.json.encode(msgspec.json.decode(text))
    assert decode_stub(COMPLETED).state == "completed"
    assert {row[1] for row in table("result")} >= {"`pending`", "`completed`"}
    assert f"to live {STUB_MARGIN_S:,} s longer" in PAGE


def test_the_tables_of_fields_list_every_field_and_no_other() -> None:
    """In the order of the source, where a table is about one type."""
    both, embed, score = (
        first_column("field of both"),
        first_column("field of `embed`"),
        first_column("field of `score`"),
    )
    assert set(both + embed) == set(Embed.__struct_fields__)
    assert set(both + score) == set(Score.__struct_fields__)
    replies = {"type", *TopicReply.__struct_fields__, *StreamReply.__struct_fields__}
    assert set(first_column("field of `reply`")) == replies
    kinds: list[tuple[type[msgspec.Struct], str]] = [
        (Embedded, "`embedded`"),
        (Scored, "`scored`"),
        (Failed, "`failed`"),
        (Tensor, "a tensor"),
    ]
    for kind, name in kinds:
        assert first_column(f"field of {name}") == list(kind.__struct_fields__)
    choices = {row[0]: row[1] for row in table("field of `embed`")}
    for field, values in (("dtype", DTYPES), ("encoding", ENCODINGS), ("outputs", OUTPUTS)):
        assert choices[f"`{field}`"].endswith(", ".join(f"`{value}`" for value in values))


def test_the_tables_of_headers_are_the_source() -> None:
    """Names, bytes, order."""
    tables = [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()[2:]]
        for block in re.findall(r"^\| header \|.*?(?=\n\n)", PAGE, re.MULTILINE | re.DOTALL)
    ]

    def rows(meanings: Mapping[str, str]) -> list[list[str]]:
        return [[f"`{name}`", meaning] for name, meaning in meanings.items()]

    assert tables == [rows(h.REQUEST_HEADERS), rows(h.REPLY_HEADERS), rows(h.DEAD_HEADERS)]


def test_every_header_we_know_is_explained() -> None:
    """A constant without a meaning would be known to us alone."""
    known = {
        value for name, value in vars(h).items() if name.isupper() and isinstance(value, str)
    }  # the names of headers are the module's only texts
    assert known == {*h.REQUEST_HEADERS, *h.REPLY_HEADERS, *h.DEAD_HEADERS}
    explained = " ".join([*h.REQUEST_HEADERS.values(), *h.REPLY_HEADERS.values()])
    assert all(f"`{kind}`" in explained for kind in h.CE_TYPES.values())


def test_the_table_of_codes_is_the_source() -> None:
    """Code, retryable, dead letter, meaning."""
    says = {True: "yes", False: "no"}
    assert table("code") == [
        [f"`{code}`", says[facts.retryable], says[facts.dead_letter], facts.meaning] for code, facts in CODES.items()
    ]


def test_the_table_of_limits_has_the_defaults() -> None:
    """Every limit, with its value."""
    found = {row[0].strip("`"): int(row[1].replace(",", "")) for row in table("limit")}
    assert found == msgspec.structs.asdict(Limits())
    assert f"at most {ITEMS_CEILING:,} items" in PAGE


def test_the_names_on_the_page_are_the_source() -> None:
    """Topics, groups, keys, reserved words."""
    names = Names()
    model, lane = "<model>", "<lane>"
    topics = [
        names.requests(model, "bulk").replace("bulk", lane),
        names.shared("bulk").replace("bulk", lane),
        names.retry(10).replace("10s", "<delay>"),
        names.dead,
    ]
    assert first_column("topic") == topics
    assert first_column("Redis key") == [
        names.result("<id>"),
        names.stub("<id>"),
        names.cancel("<id>"),
        names.stream("<client>"),
        names.model(model),
        names.worker("<worker>"),
    ]
    groups = f"`{names.group('interactive')}`, `{names.group('bulk')}` and `{names.group('retry')}`"
    assert f"Consumer groups: {groups}" in PAGE
    assert " and none of " + ", ".join(f"`{slug}`" for slug in sorted(RESERVED_SLUGS)) in PAGE.replace("\n", " ")


def test_the_environment_on_the_page_is_read_so() -> None:
    """Short names, and the rule for all others."""
    rows = [[cell.strip("`") for cell in row] for row in table("variable")]
    assert rows == [[name, ".".join(part for part in path if part)] for name, path in SHORT.items()]
    assert overrides({"EMBEDMQ_WORKER__MAX_BATCH_MS": "20"}) == {("worker", "max_batch_ms"): "20"}
    assert overrides({"EMBEDMQ_KAFKA": "a:1", "HOME": "/"}) == {("kafka", "bootstrap"): "a:1"}
    assert "`EMBEDMQ_WORKER__MAX_BATCH_MS=20`" in PAGE
