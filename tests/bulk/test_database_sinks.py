"""What every sink that is a store of its own promises: rows by id, a checkpoint behind them, one writer."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import embedmq
import pytest
from embedmq.bulk.adapters import make_sink
from embedmq.bulk.errors import JobTaken, SinkRefused
from embedmq.bulk.rows import Shape
from embedmq_local.stack import Stack

from tests.bulk.stores import COLUMNS, JOB, SHAPE, expected, opened, rows, stored
from tests.worker.world import World

ROOT = Path(__file__).parents[2]
DATABASES = ["postgresql", "qdrant", "lancedb"]
EVERY = [*DATABASES, "kafka"]


@dataclass
class Killed:
    """Four stores after their writer was killed, and what a second process was told while it wrote."""

    uris: dict[str, str]
    taken: dict[str, BaseException] = field(default_factory=dict)


@pytest.fixture(scope="module")
def killed(stack: Stack, postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    """A process committed ten rows, wrote ten more without a commit, and was killed."""
    folder = tmp_path_factory.mktemp("killed")
    here = Path.cwd()
    os.chdir(folder)  # where a Kafka sink has its checkpoint
    topic = f"t{uuid.uuid4().hex[:10]}"

    async def create() -> None:
        async with World(stack.kafka, stack.redis) as world:
            await world.create(topic)

    asyncio.run(create())
    found = Killed(
        {
            "postgresql": f"{postgres}&table=docs",
            "qdrant": f"qdrant://{folder}/qdrant?collection=docs",
            "lancedb": f"lancedb://{folder}/lancedb?table=docs",
            "kafka": f"kafka://{stack.kafka}/{topic}",
        }
    )
    command = [sys.executable, "-m", "tests.bulk.stores", *found.uris.values()]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "written\n"
            for kind, uri in found.uris.items():
                with pytest.raises(embedmq.EmbedMQError) as error:
                    opened(uri).close()
                found.taken[kind] = error.value
        finally:
            writer.kill()
    yield found
    os.chdir(here)


@pytest.mark.parametrize("kind", EVERY)
def test_a_second_process_is_kept_out_while_the_first_one_writes(killed: Killed, kind: str) -> None:
    """Never do two processes write the same job's rows silently; the lock ends with its process."""
    assert isinstance(killed.taken[kind], JobTaken)
    opened(killed.uris[kind]).close()


@pytest.mark.parametrize("kind", EVERY)
def test_after_a_kill_the_job_goes_on_and_every_id_is_there_once(killed: Killed, stack: Stack, kind: str) -> None:
    """The checkpoint is of the last commit; what was written behind it is written again, over what is there."""
    sink = opened(killed.uris[kind])
    assert sink.load() == b"ten"
    again = rows(range(5, 15), "second")
    sink.write(again)
    sink.commit(b"fifteen")
    assert sink.load() == b"fifteen"
    sink.close()

    found = stored(killed.uris[kind], stack)
    assert sink.at_least_once == (kind == "kafka")
    assert len(found) == 15 or sink.at_least_once
    assert {row.id: row for row in found} == expected(rows(range(5))) | expected(again)


@pytest.mark.parametrize("kind", DATABASES)
def test_a_sink_knows_which_ids_it_has_and_their_hashes(killed: Killed, kind: str) -> None:
    """What --missing-only and --changed-only ask."""
    known, unknown = rows(range(5)), rows(range(90, 95))
    sink = opened(killed.uris[kind])
    assert sink.hashes([*known.ids, *unknown.ids]) == dict(zip(known.ids, known.hashes, strict=True))
    sink.close()


@pytest.mark.parametrize("kind", DATABASES)
@pytest.mark.parametrize("shape", [Shape(dimensions=5), Shape(dimensions=4, dtype="float16")])
def test_vectors_that_do_not_fit_are_refused_before_any_is_written(killed: Killed, kind: str, shape: Shape) -> None:
    """The message has what the store holds, and what the job has."""
    with pytest.raises(SinkRefused) as error:
        opened(killed.uris[kind], shape)
    told = str(error.value)
    assert "4" in told
    assert ("5" in told) if shape.dimensions == 5 else ("float16" in told or "halffloat" in told)
    assert "name another" in told or "another_column" in told


@pytest.mark.parametrize("kind", EVERY)
def test_a_checkpoint_is_forgotten_on_request(killed: Killed, stack: Stack, kind: str) -> None:
    """What --restart does; the rows stay."""
    before = stored(killed.uris[kind], stack)
    sink = opened(killed.uris[kind])
    sink.commit(b"something")
    sink.clear()
    assert sink.load() is None
    sink.close()
    assert len(stored(killed.uris[kind], stack)) == len(before)


@pytest.mark.parametrize("kind", DATABASES)
def test_float16_vectors_come_back_as_they_were(kind: str, database: str, tmp_path: Path, stack: Stack) -> None:
    """Half the room, in each store's own type."""
    uris = {
        "postgresql": f"{database}&table=docs",
        "qdrant": f"qdrant://{tmp_path}?collection=docs",
        "lancedb": f"lancedb://{tmp_path}?table=docs",
    }
    shape = Shape(dimensions=4, dtype="float16", keep=SHAPE.keep)
    vectors = rows(range(3), shape=shape)
    sink = opened(uris[kind], shape)
    sink.write(vectors)
    sink.commit(b"done")
    sink.close()
    assert {row.id: row for row in stored(uris[kind], stack)} == expected(vectors)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("postgresql://u:secret@localhost/db", "table"),
        ("postgresql://u:sec%ret@localhost/db?table=docs", "percent-encode"),
        ("postgresql://u:secret@localhost/db?table=docs&sslmode=odd&nonsense=1", "cannot read"),
        ("qdrant://localhost", "collection"),
        ("qdrant:///folder", "collection"),
        ("qdrant://k:secret@localhost/docs", "environment"),
        ("lancedb:///folder", "table"),
        ("lancedb://cloud/folder?table=docs", "three slashes"),
        ("kafka://localhost", "topic"),
        ("kafka://localhost/docs?encoding=odd", "encoding"),
        ("kafka://localhost/docs?acks=0", "acks"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused_without_its_password(uri: str, told: str) -> None:
    """Before anything is connected to."""
    with pytest.raises(SinkRefused, match=told) as error:
        make_sink(uri, COLUMNS)
    assert "sec" not in str(error.value)


@pytest.mark.parametrize("kind", EVERY)
def test_a_kept_column_never_takes_the_place_of_a_vector_or_an_id(killed: Killed, kind: str) -> None:
    """`--keep id` would have two meanings."""
    sink = make_sink(killed.uris[kind], COLUMNS)
    with pytest.raises(SinkRefused, match="id"):
        sink.open(JOB, Shape(dimensions=4, keep=("id",)))
    sink.close()
