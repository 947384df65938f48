"""A sink that somebody else writes is found and written as ours are: the one that docs/adapters.md shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from embedmq.bulk.adapters import make_sink
from embedmq.bulk.errors import SinkRefused
from embedmq.bulk.ports import Sink
from embedmq.bulk.rows import Columns, Shape, Vectors

from tests.bulk.page import install

SHAPE = Shape(dimensions=3)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with the page's sink and entry point."""
    install("A sink of your own", "embedmq.sinks", tmp_path, monkeypatch)
    return tmp_path


def vectors(*ids: str, version: bytes = b"1") -> Vectors:
    return Vectors(ids, [version * 16] * len(ids), np.ones((len(ids), 3), np.float32), [{}] * len(ids))


def test_the_sink_of_the_page_keeps_vectors_by_id_and_its_checkpoint_with_them(installed: Path) -> None:
    """As of a commit after an end without one; an id replaces an id."""
    sink: Sink = make_sink(f"sqlite:{installed}/v.db", Columns())
    assert not sink.is_there()
    sink.open("job", SHAPE)
    assert sink.load() is None
    sink.write(vectors("a", "b"))
    sink.commit(b"one")
    sink.write(vectors("b", "c", version=b"2"))
    sink.close()
    sink.open("job", SHAPE)
    assert (sink.is_there(), sink.load()) == (True, b"one")
    assert sink.hashes(["a", "b", "c"]) == {"a": b"1" * 16, "b": b"1" * 16}
    sink.write(vectors("b", version=b"3"))
    sink.clear()
    assert sink.load() is None
    sink.close()


def test_it_refuses_vectors_of_another_width_and_what_it_cannot_keep(installed: Path) -> None:
    """Before anything is embedded."""
    sink: Sink = make_sink(f"sqlite:{installed}/v.db", Columns())
    sink.open("job", SHAPE)
    sink.write(vectors("a"))
    sink.commit(b"one")
    sink.close()
    with pytest.raises(SinkRefused, match="name another file"):
        sink.open("job", Shape(dimensions=4))
    sink.close()
    with pytest.raises(SinkRefused, match="--keep"):
        make_sink(f"sqlite:{installed}/v.db", Columns(keep=("page",)))
