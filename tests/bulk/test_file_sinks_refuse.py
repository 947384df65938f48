"""What a file sink cannot take it refuses before work is wasted, with the remedy, and leaves what was there."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedmq.bulk import load_vectors
from embedmq.bulk.errors import JobTaken, SinkRefused
from embedmq.bulk.ports import Sink
from embedmq.bulk.rows import Columns, Shape, Vectors
from embedmq.bulk.sinks.parquet import ParquetSink
from msgspec import structs

from tests.bulk.file_sinks import KINDS, SHAPE, assert_holds, make, opened, vectors

NOBODY = 65534
HOLD = """
import sys
from pathlib import Path
from tests.bulk.file_sinks import opened
sink = opened(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"vectors.{request.param}"


@pytest.fixture
def written(folder: Path) -> Path:
    sink = opened(folder)
    sink.write(vectors(["a"]))
    sink.commit(b"1")
    sink.close()
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["notes.txt", "part-00000-6a2c.snappy.parquet", "part-00000.npy"])
def test_a_folder_of_somebody_else_is_not_touched(folder: Path, name: str) -> None:
    folder.mkdir()
    (folder / name).write_bytes(b"theirs")
    with pytest.raises(SinkRefused, match=rf"{name}.*move them away, or name another sink"):
        opened(folder)
    assert contents(folder) == {name: b"theirs"}


def test_a_stray_file_among_the_parts_is_named(written: Path) -> None:
    """Readers would take it for rows. What begins with `_` or `.` they pass over, and so do we."""
    (written / ".DS_Store").write_bytes(b"")
    (written / "_SUCCESS").write_bytes(b"")
    opened(written).close()
    stray = written / f"part-00099{written.suffix}"
    stray.write_bytes(b"")
    with pytest.raises(SinkRefused, match="part-00099"):
        opened(written)
    assert stray.exists()


def test_a_file_in_the_way_is_not_touched(folder: Path) -> None:
    folder.write_bytes(b"one file")
    with pytest.raises(SinkRefused, match="a file is in the way, and this sink is a folder"):
        opened(folder)
    with pytest.raises(SinkRefused, match="a file is in the way"):
        opened(folder / f"inner{folder.suffix}")
    assert folder.read_bytes() == b"one file"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"dimensions": 8}, "dimensions 4 there, 8 here"),
        ({"dtype": "float16"}, "dtype float32 there, float16 here"),
        ({"model": "e5"}, "model minilm there, e5 here"),
        ({"revision": "def"}, "revision abc there, def here"),
        ({"keep": ("title",)}, "kept columns title, year there, title here"),
    ],
)
def test_another_shape_is_refused_naming_both(written: Path, changes: dict[str, object], says: str) -> None:
    before = contents(written)
    with pytest.raises(SinkRefused, match=rf"{says}.*[Nn]ame another sink, or delete the folder"):
        opened(written, shape=structs.replace(SHAPE, **changes))
    assert {**contents(written), "_embedmq.lock": b""} == {**before, "_embedmq.lock": b""}


def test_a_folder_without_rows_takes_another_shape(folder: Path) -> None:
    opened(folder).close()
    other = Shape(dimensions=8, model="e5")
    sink = opened(folder, shape=other)
    sink.write(vectors(["a"], 8, kept={}))
    sink.commit(b"")
    sink.close()
    assert load_vectors(folder)[1].shape == (1, 8)


def test_the_folder_of_another_format_is_refused(written: Path, tmp_path: Path) -> None:
    other = tmp_path / ("moved.jsonl" if written.suffix != ".jsonl" else "moved.npy")
    written.rename(other)
    with pytest.raises(SinkRefused, match=f"format {written.suffix[1:]} there, {other.suffix[1:]} here"):
        opened(other)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format_version": 2}, "is of version 2, and this embedmq knows versions up to 1: use the release"),
        ({"parts": [{"number": "one"}]}, r"cannot be read .*bring it back from a copy, or delete the folder"),
        ({"retired": ["../../precious"]}, r"cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_manifest_that_cannot_be_understood_is_refused(
    written: Path, change: dict[str, object] | None, says: str
) -> None:
    manifest = written / "_embedmq.json"
    text = manifest.read_text()
    manifest.write_text(json.dumps(json.loads(text) | change) if change else text[: len(text) // 2])
    before = contents(written)
    with pytest.raises(SinkRefused, match=says):
        opened(written)
    with pytest.raises(SinkRefused, match=says):
        load_vectors(written)
    assert contents(written) == before


def test_a_part_that_was_changed_or_lost_is_named(written: Path) -> None:
    part = written / f"part-00000{written.suffix}"
    data = part.read_bytes()
    part.write_bytes(data + b"\n")
    with pytest.raises(SinkRefused, match=rf"part-00000.* has {len(data) + 1} bytes, and {len(data)} were committed"):
        opened(written)
    part.unlink()
    with pytest.raises(SinkRefused, match=r"part-00000.* is missing, .*bring it back"):
        opened(written)
    with pytest.raises(SinkRefused, match="not the parts of its manifest"):
        load_vectors(written)


def test_without_the_right_to_write_it_says_so(folder: Path) -> None:
    folder.parent.chmod(0o555)
    try:
        with _nobody(), pytest.raises(SinkRefused, match="give this user the right to write there"):
            opened(folder)
    finally:
        folder.parent.chmod(0o755)


@contextlib.contextmanager
def _nobody() -> Iterator[None]:
    """Root may write anywhere."""
    me = os.geteuid()
    if me == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if me == 0:
            os.seteuid(me)


@contextlib.contextmanager
def _small_disk(limit_bytes: int) -> Iterator[None]:
    """No file grows past this: the kernel refuses in the middle of a write, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _write_and_commit(sink: Sink, block: Vectors) -> None:
    sink.write(block)
    sink.commit(b"2")


def test_a_disk_that_fills_in_the_middle_of_a_part_loses_nothing(written: Path) -> None:
    """The folder is as of the last commit, nothing is left over, and the same sink goes on when there is room."""
    noise = random.Random(1)
    block = vectors([f"row {k}" for k in range(500)])
    block = structs.replace(block, kept=[{"title": noise.randbytes(500).hex()} for _ in block.ids])
    sink = opened(written)
    with _small_disk(100_000), pytest.raises(SinkRefused, match=r"raise the largest size of a file .*is kept"):
        _write_and_commit(sink, block)
    assert_holds(written, {"a": 0})
    assert sink.load() == b"1"
    assert sink.hashes(block.ids) == {}
    _write_and_commit(sink, block)
    sink.close()
    assert_holds(written, {"a": 0, **dict.fromkeys(block.ids, 0)})


def test_a_disk_that_fills_under_the_index_loses_nothing(tmp_path: Path) -> None:
    """The index is written after the manifest: the commit is made, and the index catches up when there is room."""
    folder = tmp_path / "vectors.parquet"
    block = vectors({f"{k} {'x' * 1000}": 1 for k in range(500)})  # small where ids are compressed
    sink = opened(folder)
    sink.write(block)
    with _small_disk(100_000), pytest.raises(SinkRefused, match=r"cannot write the index of .*free some space"):
        sink.commit(b"1")
    assert sink.load() == b"1"
    assert len(sink.hashes(block.ids)) == 500
    sink.close()
    assert_holds(folder, dict.fromkeys(block.ids, 1))


def test_a_disk_that_fills_in_the_middle_of_the_manifest_loses_nothing(written: Path) -> None:
    sink = opened(written)
    sink.write(vectors({"a": 1, "b": 1}))
    with _small_disk(50_000), pytest.raises(SinkRefused, match="raise the largest size of a file"):
        sink.commit(b"2" * 60_000)
    assert_holds(written, {"a": 0})
    sink.write(vectors({"a": 1, "b": 1}))
    sink.commit(b"2")
    sink.close()
    assert_holds(written, {"a": 1, "b": 1})


def test_a_second_writer_is_told_who_the_first_is(folder: Path) -> None:
    """The lock is the kernel's: it is gone with its process, however that ends."""
    root = Path(__file__).parents[2]
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"open\n"
        with pytest.raises(JobTaken, match=f"process {first.pid} writes into .*name another sink"):
            opened(folder)
        first.kill()
    sink = opened(folder)
    with pytest.raises(JobTaken, match=f"process {os.getpid()} writes"):
        opened(folder, "another job")
    sink.close()
    opened(folder).close()


@pytest.mark.parametrize("uri", ["s3://bucket/vectors.parquet", "https://example.org/vectors.parquet", "file://"])
def test_an_address_elsewhere_is_refused_before_anything(uri: str) -> None:
    with pytest.raises(SinkRefused, match="is no folder of this machine: name a path"):
        ParquetSink(uri, Columns())


@pytest.mark.parametrize("name", ["id", "vector", "content_hash"])
def test_a_kept_column_cannot_have_a_name_of_ours(folder: Path, name: str) -> None:
    with pytest.raises(SinkRefused, match=f"do not keep {name}"):
        make(folder, ("title", name))


def test_text_that_is_no_text_is_named(written: Path) -> None:
    sink = opened(written)
    with pytest.raises(SinkRefused, match=r"'half \\ud83d'.*mend that row"):
        sink.write(vectors(["b", "half \ud83d"]))
    sink.close()
    assert_holds(written, {"a": 0})


def test_vectors_of_another_width_are_refused(written: Path) -> None:
    sink = opened(written)
    with pytest.raises(SinkRefused, match=r"takes float32 \(1, 4\), and got float32 \(1, 5\)"):
        sink.write(vectors(["b"], 5))
    sink.close()
    assert_holds(written, {"a": 0})


def test_without_pyarrow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(SinkRefused, match=r"pip install 'embedmq\[parquet\]'"):
        ParquetSink("vectors.parquet", Columns())


def test_closing_what_was_never_opened_is_no_error(folder: Path) -> None:
    make(folder).close()
    assert not folder.exists()
