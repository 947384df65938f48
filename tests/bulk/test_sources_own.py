"""A source that somebody else writes is found and read as ours are: the one that docs/adapters.md shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedmq.bulk.adapters import make_source
from embedmq.bulk.errors import SourceRefused
from embedmq.bulk.ports import Source
from embedmq.bulk.rows import Columns, Row

from tests.bulk.page import install


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with the page's source and entry point."""
    install("A source of your own", "embedmq.sources", tmp_path, monkeypatch)
    return tmp_path


def test_the_source_of_the_page_is_found_and_can_be_gone_on_with(installed: Path) -> None:
    """By its scheme; its rows, its flaws, and the rest behind a position."""
    box = installed / "mail"
    parts = [f"From me\nMessage-ID: <{n}>\nSubject: about {n}\n\ntext {n}\n\n" for n in range(3)]
    box.write_text("".join(parts) + "From me\nSubject: no id\n\ntext\n")
    source: Source = make_source(f"mbox:{box}", Columns(keep=("subject",)))
    source.open()
    (block,) = source.read(None)
    assert source.count() == 4
    assert block.rows[1] == Row("<1>", "text 1\n", {"subject": "about 1"})
    assert [(flaw.where, flaw.kept) for flaw in block.flaws] == [(f"{box} message 4", {"subject": "no id"})]
    assert [row.id for rest in source.read({"message": 2}) for row in rest.rows] == ["<2>"]
    assert list(source.read(block.after)) == []
    with pytest.raises(SourceRefused, match="another kind of source"):
        list(source.read({"byte": 3}))
    source.close()


def test_it_refuses_what_is_not_there(installed: Path) -> None:
    """A mailbox, or a column."""
    for uri, columns in ((f"mbox:{installed}/none", Columns()), (f"mbox:{installed}", Columns(text="body"))):
        source = make_source(uri, columns)
        with pytest.raises(SourceRefused):
            source.open()
        source.close()
