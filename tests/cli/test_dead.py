"""What `embedmq dead list` and `show` tell of letters that a worker wrote, and of what others left beside them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from embedmq_local.stack import Stack

from tests.cli.conftest import Run
from tests.cli.graveyard import HOUR_MS, SECRET, Graveyard
from tests.worker.test_unreadable import send_with_a_header_name_that_is_no_utf8


def test_list_shows_the_newest_last_and_counts(embedmq: Run, three: Graveyard) -> None:
    """One line each: id, model, code, age, attempts, place, bytes; the text of no request."""
    done = embedmq("dead", "list")

    lines = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    assert [line.split()[0] for line in lines[1:4]] == ["first", "second", "third"]
    assert lines[2].split() == ["second", "bge", "unknown_model", "2h", "4", "0/1", str(len(SECRET))]
    assert lines[4] == "3 letters: 2 processing_failed, 1 unknown_model; by model: 2 minilm, 1 bge"
    assert "secret" not in done.out


def test_list_gives_programs_one_line_a_letter(embedmq: Run, three: Graveyard) -> None:
    """And nothing else."""
    first, *_ = found = embedmq("dead", "list", "--json").lines

    assert len(found) == 3
    assert first == {
        "place": "0/0",
        "id": "first",
        "model": "minilm",
        "code": "processing_failed",
        "reason": "the device failed on this item",
        "lane": "bulk",
        "attempts": 4,
        "buried_unix_ms": three.now_ms - 3 * HOUR_MS,
        "first_seen_unix_ms": three.now_ms - 9 * HOUR_MS,
        "topic": f"{three.prefix}.minilm.bulk",
        "partition": 3,
        "offset": 7,
        "bytes": len(SECRET),
        "fault": None,
    }


@pytest.mark.parametrize(
    ("flags", "ids"),
    [
        ("--model bge", ["second"]),
        ("--model bge --model minilm", ["first", "second", "third"]),
        ("--code processing_failed", ["first", "third"]),
        ("--model bge --code processing_failed", []),
        ("--since 150m", ["second", "third"]),
        ("--until 90m", ["first", "second"]),
        ("--since 150m --until 90m", ["second"]),
        ("--since 2020-01-01T00:00:00+02:00 --until 2021-01-01", []),
        ("--limit 2", ["second", "third"]),
        ("--code processing_failed --limit 1", ["third"]),
    ],
)
def test_filters_choose(embedmq: Run, three: Graveyard, flags: str, ids: list[str]) -> None:
    """All must hold; the limit leaves the newest."""
    assert [line["id"] for line in embedmq("dead", "list", "--json", *flags.split()).lines] == ids


def test_letters_of_several_partitions_are_in_order_of_time(embedmq: Run, stack: Stack, prefix: str) -> None:
    """Wherever they lie; and those of one partition stay in its order."""
    yard = Graveyard(stack, prefix)
    yard.create(yard.dead, 3)
    for number, age_h in enumerate((6, 5, 4, 3, 2, 1)):
        yard.bury(f"id-{number}", age_h=age_h, partition=number % 3)

    assert [line["id"] for line in embedmq("dead", "list", "--json").lines] == [f"id-{n}" for n in range(6)]
    assert embedmq("dead", "show", "1/1", "--json").lines[0]["id"] == "id-4"


def test_without_a_topic_there_are_no_letters(embedmq: Run) -> None:
    """Which is no error, and creates no topic."""
    assert embedmq("dead", "list").out.splitlines()[1:] == ["0 letters"]
    assert embedmq("dead", "replay").out == "no dead letter to replay\n"
    assert embedmq("dead", "purge", "--before", "1h", "--yes").code == 0
    assert embedmq("dead", "list", "--json").out == ""


def test_the_model_of_a_shared_topic_is_that_of_the_request_else_the_key(embedmq: Run, yard: Graveyard) -> None:
    """As the worker derives it, also from a request that is broken otherwise."""
    for number, (value, key) in enumerate(
        [(b'{"items": ["x"], "model": "tail"}', None), (b'{"items": 1}', b"tail"), (b'{"model": "tail", "x": 1}', b"?")]
    ):
        yard.bury(f"id-{number}", "malformed", model="shared", value=value, key=key)

    assert [line["model"] for line in embedmq("dead", "list", "--json").lines] == ["tail"] * 3


FAULTS: list[tuple[dict[str, bytes | None], str, str]] = [
    ({}, "embedmq-error-code", "embedmq-error-code is missing"),
    ({}, "kafka_dlt-original-topic", "kafka_dlt-original-topic is missing"),
    ({"embedmq-id": b"\xff\xfe"}, "", "embedmq-id is broken"),
    ({"embedmq-id": b"no id"}, "", "embedmq-id is broken"),
    ({"embedmq-id": None}, "", "embedmq-id is missing"),
    ({"embedmq-lane": b"fast"}, "", "embedmq-lane is broken"),
    ({"embedmq-error-code": b"\x1b[31m"}, "", "embedmq-error-code is broken"),
    ({"embedmq-first-seen": b"yesterday"}, "", "embedmq-first-seen is broken"),
    ({"kafka_dlt-original-partition": b"\x00\x03"}, "", "kafka_dlt-original-partition is broken"),
    ({"kafka_dlt-original-offset": b"\xff" * 8}, "", "kafka_dlt-original-offset is broken"),
    ({"kafka_dlt-original-topic": b"a topic"}, "", "kafka_dlt-original-topic is broken"),
]


def test_what_no_worker_wrote_is_listed_as_such_and_never_replayed(embedmq: Run, yard: Graveyard) -> None:
    """With what is wrong with it. Its good neighbours are not held up, and the exit code tells."""
    topic = yard.create(f"{yard.prefix}.minilm.bulk")
    for change, without, _ in FAULTS:
        yard.bury("id", change=change, without=without)
    yard.bury("good")

    listed = embedmq("dead", "list", "--json").lines
    shown = embedmq("dead", "list").out
    done = embedmq("dead", "replay")

    assert [line["fault"] for line in listed] == [*(fault for _, _, fault in FAULTS), None]
    assert f"12 letters: {len(FAULTS)} unreadable, 1 processing_failed" in shown
    assert "\x1b" not in shown
    assert done.code == 1
    assert f"{len(FAULTS)} refused, 1 replayed" in done.out
    assert [dict(record.headers)["embedmq-id"] for record in yard.records(topic)] == [b"good"]


def test_a_record_without_anything_is_listed(embedmq: Run, yard: Graveyard) -> None:
    """No headers, a time long ago, a null value."""
    yard.do(lambda world: world.produce(yard.dead, None, key=b"\xff\x00", timestamp_ms=1))

    done = embedmq("dead", "list")

    assert done.code == 0
    assert "embedmq-id is missing" in done.out
    assert embedmq("dead", "show", "0/0").code == 0


def test_a_record_that_the_kafka_client_cannot_read_stops_nobody(embedmq: Run, stack: Stack, yard: Graveyard) -> None:
    """A header's name that is no UTF-8: it has a line, and its neighbours have theirs."""
    yard.bury("before")
    asyncio.run(send_with_a_header_name_that_is_no_utf8(stack.kafka, yard.dead))
    yard.bury("behind")
    asyncio.run(send_with_a_header_name_that_is_no_utf8(stack.kafka, yard.dead))

    lines = {line["place"]: line for line in embedmq("dead", "list", "--json").lines}

    assert [lines[f"0/{n}"]["id"] for n in range(4)] == ["before", None, "behind", None]
    assert lines["0/1"]["fault"] == lines["0/3"]["fault"] == "the name of a header is not UTF-8"


def test_show_tells_all_but_the_text(embedmq: Run, three: Graveyard) -> None:
    """The reason and every header, also those that it came with; by id or by place."""
    three.bury("fourth", before=[("content-type", b"application/json"), ("evil", b"\x1b[2J\xff"), ("none", None)])

    by_id, by_place = embedmq("dead", "show", "fourth"), embedmq("dead", "show", "0/3")

    assert by_id.code == 0
    assert by_id.out == by_place.out
    for part in (
        "the device failed on this item",
        "partition 3 offset 7",
        "content-type: application/json",
        "none: null",
    ):
        assert part in by_id.out
    assert "secret" not in by_id.out
    assert "\x1b" not in by_id.out
    (line,) = embedmq("dead", "show", "fourth", "--json").lines
    assert ["evil", "0x1b5b324aff"] in line["headers"]
    assert "secret" not in json.dumps(line)


def test_show_writes_the_bytes_of_the_request_where_it_is_told_to(
    embedmq: Run, piped: Run, three: Graveyard, tmp_path: Path
) -> None:
    """To a file, or to standard output, and then nothing else there."""
    assert piped("dead", "show", "first", "--value", "-").out.encode() == SECRET
    assert "secret" not in embedmq("dead", "show", "first", "--value", str(tmp_path / "value")).out
    assert (tmp_path / "value").read_bytes() == SECRET


def test_show_takes_the_last_of_one_id_and_says_when_there_is_none(embedmq: Run, three: Graveyard) -> None:
    """Exit code 1, and how to find those that are there."""
    three.bury("first", "unknown_model")

    assert embedmq("dead", "show", "first", "--json").lines[0]["place"] == "0/3"
    for which in ("fifth", "0/9", "7/0"):
        done = embedmq("dead", "show", which)
        assert (done.code, done.err) == (
            1,
            f"embedmq: error: {which}: no such dead letter: embedmq dead list names those that are there\n",
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["purge"], "Missing option '--before'"),
        (["purge", "--before", "soon"], "'soon' is no time"),
        (["purge", "--before", "2999-01-01", "--yes"], "in the future"),
        (["purge", "--before", "1h"], "there is nobody to ask: pass --yes"),
        (["list", "--code", "too_long"], "too_long"),
        (["list", "--since", "1h", "--until", "2h"], "--since is not before --until"),
        (["replay", "--limit", "0"], "--limit"),
        (["show"], "Missing argument"),
    ],
)
def test_a_wrong_command_line_ends_in_2(embedmq: Run, three: Graveyard, arguments: list[str], message: str) -> None:
    """And nothing is done."""
    done = embedmq("dead", *arguments)

    assert done.code == 2
    assert message in done.err
    assert len(three.records(three.dead)) == 3


@pytest.mark.parametrize("arguments", ["list", "show 0/0", "replay", "purge --before 1h --yes"])
def test_without_kafka_it_ends_in_3(embedmq: Run, arguments: str) -> None:
    """With one line that says where it was looked for."""
    done = embedmq("dead", *arguments.split(), "--kafka", "127.0.0.1:1")

    assert done.code == 3
    assert done.err.count("\n") == 1
    assert "127.0.0.1:1" in done.err


def test_a_large_topic_is_listed_in_little_memory(environment: dict[str, str], yard: Graveyard) -> None:
    """Letters of 160 MB need a few megabytes more than none; every one is listed."""

    def peak_mb() -> tuple[float, int]:
        program = (
            "import resource, sys; from embedmq.cli.root import run; code = run(['dead', 'list', '--json']); "
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); sys.exit(code)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, timeout=60, check=True
        )
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return int(done.stderr) * unit / 2**20, done.stdout.count(b"\n")

    empty_mb, none = peak_mb()
    headers = list(yard.headers("id", "processing_failed", f"{yard.prefix}.minilm.bulk").items())
    yard.do(lambda world: world.produce_all(yard.dead, [os.urandom(800_000)] * 200, headers))
    full_mb, all_ = peak_mb()

    assert (none, all_) == (0, 200)
    assert full_mb - empty_mb < 40
