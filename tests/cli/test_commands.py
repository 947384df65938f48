"""What each command prints, for people and for programs, and with which code it ends."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from embedmq_local.stack import Stack

from tests.cli.conftest import Run
from tests.producer.standin import StandIn, embedded, failed, vector


def test_embed_prints_one_json_line_a_text(embedmq: Run, worker: StandIn) -> None:
    """In the order of the arguments: index, vector, tokens."""
    done = embedmq("embed", "minilm", "a cat", "a dog!", "--json")

    assert (done.code, done.err) == (0, "")
    assert done.lines == [
        {"index": 0, "dense": vector("a cat"), "tokens": 5},
        {"index": 1, "dense": vector("a dog!"), "tokens": 6},
    ]


def test_embed_is_short_for_people(embedmq: Run, worker: StandIn) -> None:
    """One line a text, with the first numbers and the dimensions."""
    done = embedmq("embed", "minilm", "a cat")

    assert done.out == "0  5 97 1 -1  4 dimensions  5 tokens\n"


def test_embed_reads_lines_in_order(piped: Run, worker: StandIn) -> None:
    """However many; an empty line is an empty text, and a missing last line break changes nothing."""
    texts = [f"line {n}" if n % 50 else "" for n in range(1500)]

    done = piped("embed", "minilm", "--json", stdin="\n".join(texts).encode())

    assert done.code == 0
    assert [line["index"] for line in done.lines] == list(range(1500))
    assert [line["dense"] for line in done.lines] == [vector(text) for text in texts]


def test_embed_answers_a_slow_pipe_line_by_line(environment: dict[str, str], worker: StandIn) -> None:
    """Without waiting for the end of the input."""
    with subprocess.Popen(
        [sys.executable, "-m", "embedmq", "embed", "minilm", "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for index, text in enumerate(("one", "two")):
            process.stdin.write(f"{text}\n".encode())
            process.stdin.flush()
            assert select.select([process.stdout], [], [], 60)[0]
            assert json.loads(process.stdout.readline()) == {"index": index, "dense": vector(text), "tokens": 3}
        process.stdin.close()
        assert process.wait(60) == 0


def test_embed_passes_its_options_on(embedmq: Run, worker: StandIn) -> None:
    """Flags are the options of `Client.embed`."""
    flags = "--prompt-name query --dimensions 2 --no-normalize --no-truncate --lane bulk --tenant acme --dtype float16"
    embedmq("embed", "minilm", "a", *flags.split())

    request = worker.requests[0]
    named = ("prompt_name", "dimensions", "normalize", "truncate", "tenant", "dtype")
    assert [request[name] for name in named] == ["query", 2, False, False, "acme", "float16"]
    assert worker.records[0].topic.endswith(".bulk")


def test_a_failed_item_ends_in_1_and_hides_no_neighbour(embedmq: Run, worker: StandIn) -> None:
    """The line of the failed item says why."""
    worker.answer = lambda request: embedded(
        request, failures=[{"index": 0, "code": "too_long", "message": "600 tokens"}]
    )
    done = embedmq("embed", "minilm", "long", "a", "--json")

    assert done.code == 1
    assert done.lines[0] == {"index": 0, "error": {"code": "too_long", "message": "600 tokens"}}
    assert done.lines[1]["dense"] == vector("a")
    assert done.err == "embedmq: error: item 0: too_long: 600 tokens\n"


def test_a_failed_request_ends_in_1(embedmq: Run, worker: StandIn) -> None:
    """All its texts are reported."""
    worker.answer = lambda request: failed(request, "processing_failed")
    done = embedmq("embed", "minilm", "a", "b")

    assert done.code == 1
    assert [line.split(":")[2] for line in done.err.splitlines()] == [" item 0", " item 1"]
    assert "processing_failed" in done.err


def test_score_ranks(embedmq: Run, worker: StandIn) -> None:
    """Best first for people, in the order of the documents for programs."""
    worker.answer = lambda request: {
        "type": "scored",
        "id": request["id"],
        "count": 2,
        "scores": [0.25, 0.75],
        "ranking": [1, 0],
        "tokens": [3, 4],
    }

    assert embedmq("score", "minilm", "pets", "a car", "a cat").out == "0.7500  1  a cat\n0.2500  0  a car\n"
    assert embedmq("score", "minilm", "pets", "a car", "a cat", "--json").lines == [
        {"index": 0, "score": 0.25, "rank": 1, "tokens": 3},
        {"index": 1, "score": 0.75, "rank": 0, "tokens": 4},
    ]


def test_submit_prints_an_id_and_result_fetches_by_it(embedmq: Run, worker: StandIn) -> None:
    """From any process, more than once."""
    done = embedmq("submit", "minilm", "a cat", "--keep-s", "60")
    id = done.out.strip()

    for _ in range(2):
        fetched = embedmq("--json", "result", id, "--wait-s", "10")
        assert (fetched.code, fetched.lines) == (0, [{"index": 0, "dense": vector("a cat"), "tokens": 5}])
    assert set(embedmq("submit", "minilm", "a", "--json").lines[0]) == {"id"}


def test_cancel_says_what_became_of_a_request(embedmq: Run, worker: StandIn) -> None:
    """Exit code 0 only for one that is called off."""
    worker.answer = lambda _: None
    id = embedmq("submit", "minilm", "a").out.strip()

    assert embedmq("cancel", id) == (0, "cancelled\n", "")
    assert embedmq("result", id).code == 1
    done = embedmq("cancel", "nope", "--json")
    assert (done.code, done.lines) == (1, [{"id": "nope", "outcome": "unknown"}])


def test_result_says_what_is_the_matter_by_its_code(embedmq: Run, worker: StandIn) -> None:
    """4 while it is not finished, 1 when there will be none."""
    worker.answer = lambda _: None
    id = embedmq("submit", "minilm", "a").out.strip()

    pending, unknown = embedmq("result", id, "--wait-s", "0.1"), embedmq("result", "nope")

    assert (pending.code, unknown.code) == (4, 1)
    assert pending.err == f"embedmq: error: request {id} is not finished: ask again, or wait longer (wait_s)\n"
    assert unknown.err == "embedmq: error: request nope: nothing is known of it: check the id\n"


def test_giving_up_ends_in_4(embedmq: Run, worker: StandIn) -> None:
    """When the time limit passes."""
    worker.answer = lambda _: None

    done = embedmq("embed", "minilm", "a", "--timeout-s", "0.2")

    assert done.code == 4
    assert done.err.startswith("embedmq: error: request ")


@pytest.mark.parametrize("flag", ["--kafka=127.0.0.1:1", "--redis=redis://127.0.0.1:1"])
@pytest.mark.parametrize("before", [True, False])
def test_an_address_where_nothing_is_ends_in_3(embedmq: Run, worker: StandIn, flag: str, before: bool) -> None:
    """Wherever the flag stands, and whatever the environment says."""
    command = ["embed", "minilm", "a"]
    done = embedmq(*([flag, *command] if before else [*command, flag]))

    assert done.code == 3
    assert done.err.count("\n") == 1
    assert "127.0.0.1:1" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobnicate"], "No such command 'frobnicate': see embedmq --help"),
        (["embed"], "Missing argument 'MODEL': see embedmq embed --help"),
        (["embed", "minilm", "a", "--dimensions", "0"], "--dimensions"),
        (["embed", "nope", "a"], "model: nope is not served; these are: minilm"),
        (["embed", "minilm", "a", "--prefix", "a.b"], "prefix = 'a.b'"),
        (["embed", "minilm", "a", "--config", "/nowhere.toml"], "cannot read /nowhere.toml"),
        (["topics", "create"], "name a MODEL"),
        (["topics", "create", "Shared!"], "is no model's name"),
    ],
)
def test_a_wrong_command_line_ends_in_2(embedmq: Run, worker: StandIn, arguments: list[str], message: str) -> None:
    """With one line that says what is wrong."""
    done = embedmq(*arguments)

    assert done.code == 2
    assert message in done.err
    assert done.err.startswith("embedmq: error: ")
    assert done.err.count("\n") == 1


def test_addresses_come_from_the_workers_file_too(
    embedmq: Run, worker: StandIn, stack: Stack, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flag beats the environment, which beats the file; what else is in the file is the worker's."""
    for name in ("EMBEDMQ_KAFKA", "EMBEDMQ_REDIS", "EMBEDMQ_PREFIX"):
        monkeypatch.delenv(name)
    file = tmp_path / "worker.toml"
    file.write_text(
        f'prefix = "{prefix}"\n[kafka]\nbootstrap = ["{stack.kafka}"]\npartitions = 3\n'
        f'[redis]\nurl = "{stack.redis}"\n[worker]\ndevice = "cpu"\n'
    )

    assert embedmq("embed", "minilm", "a", "--config", str(file)).code == 0
    assert embedmq("embed", "minilm", "a", "--config", str(file), "--kafka", "127.0.0.1:1").code == 3


def test_models_lists_the_fleet(embedmq: Run, worker: StandIn) -> None:
    """What the catalogue has."""
    (model,) = embedmq("models", "--json").lines

    assert (model["model"], model["dimensions"], model["workers"]) == ("minilm", 4, {})
    assert "minilm" in embedmq("models").out


def test_topics_are_created_once_and_shown_with_what_waits(embedmq: Run, prefix: str) -> None:
    """With the settings that workers give theirs; where there are none, nothing waits."""
    none = embedmq("topics", "show")
    assert (none.code, none.out.startswith(f"no request topics begin with {prefix}.")) == (0, True)
    assert (embedmq("topics", "show", "--json").code, embedmq("topics", "show", "--json").out) == (0, "")
    first = embedmq("topics", "create", "bge", "--shared", "--partitions", "3", "--json").lines
    again = embedmq("topics", "create", "bge", "--shared", "--json").lines

    names = {f"{prefix}.{name}.{lane}" for name in ("bge", "shared") for lane in ("interactive", "bulk")}
    others = {f"{prefix}.{name}" for name in ("retry.10s", "retry.5m", "dead", "control")}
    assert {line["topic"] for line in first} == names | others
    assert {line["outcome"] for line in first} == {"created"}
    assert {line["outcome"] for line in again} == {"there"}

    for n in range(3):
        assert embedmq("submit", "bge", f"{n}", "--lane", "bulk").code == 0
    rows = {row["topic"]: row for row in embedmq("topics", "show", "--json").lines}
    assert set(rows) == names
    bulk = rows[f"{prefix}.bge.bulk"]
    assert (bulk["model"], bulk["lane"], bulk["partitions"], bulk["end"], bulk["lag"]) == ("bge", "bulk", 3, 3, 3)
    shown = {line.split()[0]: line.split() for line in embedmq("topics", "show").out.splitlines()}
    assert shown[f"{prefix}.bge.bulk"][-3:] == ["-", "3", "-"], "nobody has committed, or says how long it takes"


def test_schemas_are_printed_whole(embedmq: Run, prefix: str) -> None:
    """As documents that parse; AsyncAPI under the prefix that was asked for."""
    assert json.loads(embedmq("schema", "json").out)["$schema"].startswith("https://json-schema.org")
    assert prefix in embedmq("schema", "asyncapi").out


def test_interrupting_ends_in_130(environment: dict[str, str], worker: StandIn) -> None:
    """At once and quietly."""
    worker.answer = lambda _: None
    with subprocess.Popen(
        [sys.executable, "-m", "embedmq", "embed", "minilm", "a"], stderr=subprocess.PIPE, env=environment
    ) as process:
        asyncio.run_coroutine_threadsafe(worker.wait_for(1), worker.loop).result(60)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in error


def test_a_closed_pipe_is_no_news(environment: dict[str, str], worker: StandIn) -> None:
    """`embedmq … | head -1` says nothing on standard error."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "embedmq", "embed", "minilm", "a", "b"],
        stdout=write,
        stderr=subprocess.PIPE,
        env=environment,
        timeout=60,
        check=False,
    )
    os.close(write)
    assert done.stderr == b""
