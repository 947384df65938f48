"""A file sink is a folder that every reader reads as one, with every id once."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedmq.bulk import load_vectors
from embedmq.bulk.ports import Sink
from embedmq.bulk.rows import BulkDtype, Shape
from embedmq.bulk.sinks.folder.manifest import read_manifest
from embedmq.bulk.sinks.folder.plan import MAX_SMALL_PARTS
from embedmq_schemas.vectors import Array

from tests.bulk.file_sinks import (
    IN_MEMORY,
    KEEP,
    KINDS,
    SHAPE,
    Disk,
    assert_holds,
    hash_of,
    make,
    numbers,
    opened,
    read_plainly,
    vectors,
)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as name:
        yield Path(name)


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"vectors.{request.param}"


@pytest.fixture
def sink(folder: Path) -> Iterator[Sink]:
    made = opened(folder)
    yield made
    made.close()


def test_what_is_committed_is_readable_at_once_and_what_is_not_is_invisible(folder: Path, sink: Sink) -> None:
    """Readers that know nothing of us see whole commits, while the job runs and after it."""
    sink.write(vectors(["a", "b"]))
    assert not list(folder.glob("part-*"))
    sink.commit(b"1")
    assert_holds(folder, {"a": 0, "b": 0})
    sink.write(vectors(["c"]))
    assert {id for id, _ in read_plainly(folder)} == {"a", "b"}
    sink.commit(b"2")
    sink.write(vectors(["lost"]))
    sink.close()
    assert_holds(folder, {"a": 0, "b": 0, "c": 0})


def test_an_id_written_again_replaces_the_older_row(folder: Path, sink: Sink) -> None:
    """In an earlier part, in the same part, and several times since the last commit: the last one wins."""
    sink.write(vectors({"a": 1, "b": 1, "c": 1}))
    sink.commit(b"1")
    sink.write(vectors({"b": 2, "d": 2}))
    sink.write(vectors({"d": 3, "e": 3}))
    sink.write(vectors({"d": 4}))
    assert sink.hashes(["a", "d", "z"]) == {"a": hash_of("a", 1), "d": hash_of("d", 4)}
    sink.commit(b"2")
    assert_holds(folder, {"a": 1, "b": 2, "c": 1, "d": 4, "e": 3})
    assert sink.hashes(["b", "e"]) == {"b": hash_of("b", 2), "e": hash_of("e", 3)}


def test_a_part_whose_rows_were_all_replaced_goes(folder: Path, sink: Sink) -> None:
    sink.write(vectors(["a", "b"]))
    sink.commit(b"1")
    sink.write(vectors({"a": 1, "b": 1}))
    sink.commit(b"2")
    assert_holds(folder, {"a": 1, "b": 1})
    assert len(list(folder.glob(f"part-*[0-9]{folder.suffix}"))) == 1


def test_many_small_parts_become_few(folder: Path, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow job commits a few rows at a time: a folder does not hold a file for each of them."""
    Disk(monkeypatch.setattr)
    commits = MAX_SMALL_PARTS + 6
    for k in range(commits):
        sink.write(vectors({f"row {k}": 0, "hot": k}))
        sink.commit(b"%d" % k)
    assert len(list(folder.glob(f"part-*[0-9]{folder.suffix}"))) < MAX_SMALL_PARTS
    sink.write(vectors({"row 3": 1}))
    sink.commit(b"last")
    assert_holds(folder, {f"row {k}": 0 for k in range(commits)} | {"hot": commits - 1, "row 3": 1})


def test_checkpoints_are_kept_by_job(folder: Path, sink: Sink) -> None:
    assert sink.load() is None
    sink.commit(b"\x00 nightly")
    sink.close()
    other = opened(folder, "other")
    assert other.load() is None
    other.write(vectors(["a"]))
    other.commit(b"other")
    other.clear()
    assert other.load() is None
    other.close()
    again = opened(folder)
    assert again.load() == b"\x00 nightly"
    assert_holds(folder, {"a": 0})
    again.close()


@pytest.mark.parametrize("harm", ["missing", "broken", "older", "later"])
def test_the_index_is_only_a_cache(folder: Path, harm: str) -> None:
    """Lost, broken, or of another moment than the manifest: it is made anew from the parts."""
    index = folder / "_embedmq.ids"
    sink = opened(folder)
    sink.write(vectors(["a", "b"]))
    sink.commit(b"1")
    sink.close()
    first = index.read_bytes(), (folder / "_embedmq.json").read_bytes()
    sink = opened(folder)
    sink.write(vectors({"b": 1, "c": 1}))
    sink.commit(b"2")
    sink.close()
    match harm:
        case "missing":
            index.unlink()
        case "broken":
            index.write_bytes(b"no database " * 1000)
        case "older":
            index.write_bytes(first[0])
        case "later":
            manifest = json.loads((folder / "_embedmq.json").read_text())
            database = folder.parent / "later.npy"
            far = opened(database)
            for k in range(manifest["generation"] + 1):
                far.write(vectors([f"z{k}"]))
                far.commit(b"")
            far.close()
            index.write_bytes((database / "_embedmq.ids").read_bytes())
    sink = opened(folder)
    assert sink.hashes(["a", "b", "c", "z0"]) == {"a": hash_of("a", 0), "b": hash_of("b", 1), "c": hash_of("c", 1)}
    sink.write(vectors({"a": 2}))
    sink.commit(b"3")
    sink.close()
    assert_holds(folder, {"a": 2, "b": 1, "c": 1})


def test_load_vectors_gives_ids_and_one_array(folder: Path, sink: Sink) -> None:
    for k in range(3):
        sink.write(vectors({f"{k} {i}": k for i in range(5)}))
        sink.commit(b"")
    ids, dense = load_vectors(folder)
    assert dense.shape == (15, 4)
    assert dense.dtype == np.float32
    assert np.array_equal(dense[7], np.array(numbers(ids[7], 1), "f4"))
    assert sorted(ids) == sorted(f"{k} {i}" for k in range(3) for i in range(5))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_numbers_come_back_bit_by_bit(folder: Path, dtype: BulkDtype) -> None:
    """Every finite half, and floats of all magnitudes, through a rewrite of their part, too."""
    bits: Array = np.arange(2**16, dtype=np.uint16).view(np.float16)
    if dtype == "float32":
        bits = np.random.default_rng(1).integers(0, 2**32, 2**16, np.uint32).view(np.float32)
    finite = bits[np.isfinite(bits)]
    rows = finite[: len(finite) // 8 * 8].reshape(-1, 8)
    sink = opened(folder, shape=Shape(dimensions=8, dtype=dtype))
    block = vectors([f"{i:05d}" for i in range(len(rows))], 8, dtype, kept={})
    block.dense[:] = rows
    sink.write(block)
    sink.commit(b"1")
    sink.write(vectors({"00000": 1}, 8, dtype, kept={}))
    sink.commit(b"2")
    sink.close()
    ids, dense = load_vectors(folder)
    assert dense.dtype.name == dtype
    assert np.array_equal(dense[np.argsort(ids)][1:], rows[1:])


def test_any_text_is_an_id_and_kept_values_stay_what_they_are(folder: Path, sink: Sink) -> None:
    ids = ["", "a\nb", "naïve \x00 \U0001f408", '{"quoted"}', "a" * 10_000]
    sink.write(vectors(ids, kept={"title": "line\nbreak ,", "year": None}))
    sink.write(vectors(["typed"], kept={"title": "3", "year": 2024}))
    sink.commit(b"")
    assert_holds(folder, dict.fromkeys([*ids, "typed"], 0))
    assert set(sink.hashes([*ids, "other"])) == set(ids)
    rows = _kept(folder)
    assert rows[ids[1]] == ("line\nbreak ,", None)
    assert rows["typed"] == ("3", "2024" if folder.suffix == ".parquet" else 2024)


def _kept(folder: Path) -> dict[str, tuple[object, ...]]:
    if folder.suffix == ".parquet":
        rows = pq.read_table(folder).to_pylist()
    else:
        lines = [line for part in folder.glob("part-*.jsonl") for line in part.read_text().split("\n") if line]
        rows = [json.loads(line) for line in lines]
    return {row["id"]: tuple(row[name] for name in KEEP) for row in rows}


def test_parquet_says_of_which_model_it_is(tmp_path: Path) -> None:
    """Columns are of fixed types in every part, and the model is in the metadata of each."""
    folder = tmp_path / "vectors.parquet"
    sink = opened(folder)
    sink.write(vectors(["a"], kept={}))
    sink.commit(b"")
    sink.close()
    schema = pq.read_schema(folder / "part-00000.parquet")
    assert schema.field("vector").type == pa.list_(pa.field("element", pa.float32(), nullable=False), 4)
    assert schema.field("content_hash").type == pa.binary(16)
    assert [schema.field(name).type for name in ("id", *KEEP)] == [pa.string()] * 3
    metadata = schema.metadata or {}
    assert metadata[b"embedmq.model"] == b"minilm"
    assert metadata[b"embedmq.revision"] == b"abc"


def test_the_manifest_lists_parts_with_rows_and_bytes(folder: Path, sink: Sink) -> None:
    sink.write(vectors(["a", "b"]))
    sink.commit(b"")
    manifest = read_manifest(folder)
    assert manifest is not None
    assert manifest.shape == SHAPE
    assert [part.rows for part in manifest.parts] == [2]
    assert manifest.files() == {name: (folder / name).stat().st_size for name in os.listdir(folder) if name[0] == "p"}


def test_an_address_is_a_path_or_a_scheme_before_one(folder: Path) -> None:
    kind = folder.suffix[1:]
    for uri in (str(folder), f"file://{folder}", f"{kind}://{folder}"):
        sink = make(uri)
        sink.open("job", SHAPE)
        sink.close()
    assert os.listdir(folder.parent) == [folder.name]
