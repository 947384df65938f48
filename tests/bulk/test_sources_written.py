"""A source of many files has none that a job wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedmq.bulk.rows import Columns
from embedmq.bulk.sources.jsonl import JsonlSource


def ids(address: Path) -> list[str]:
    source = JsonlSource(str(address), Columns())
    source.open()
    try:
        return [row.id for block in source.read(None) for row in block.rows]
    finally:
        source.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Documents, what failed of them in an earlier job, and the folder that a job wrote."""
    (tmp_path / "a.jsonl").write_text('{"id": "1", "text": "one"}\n')
    (tmp_path / "job.failed.jsonl").write_text('{"id": "2", "text": "two", "error": {}}\n')
    sink = tmp_path / "vectors.jsonl"
    sink.mkdir()
    (sink / "_embedmq.json").write_text("{}")
    (sink / "part-00000.jsonl").write_text('{"id": "3", "text": "three"}\n')
    return tmp_path


def test_a_glob_and_a_folder_pass_over_what_jobs_wrote(folder: Path) -> None:
    """Else a job would embed its own failures, and its own vectors, run after run."""
    assert ids(folder / "*.jsonl") == ["1"]
    assert ids(folder) == ["1"]


def test_what_jobs_wrote_is_read_where_it_is_named(folder: Path) -> None:
    """Failed rows, once mended, are a source; so are the parts of a sink."""
    assert ids(folder / "job.failed.jsonl") == ["2"]
    assert ids(folder / "*.failed.jsonl") == ["2"]
    assert ids(folder / "vectors.jsonl") == ids(folder / "vectors.jsonl" / "*.jsonl") == ["3"]
