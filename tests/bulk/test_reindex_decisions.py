"""What a bulk job decides without touching anything: where it goes on, which rows it embeds, when rows may go."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from embedmq.bulk.adapters import kind_of, make_sink, make_source
from embedmq.bulk.checkpoint import Checkpoint, Counts, Mode, State, decode, encode, proceed
from embedmq.bulk.errors import CheckpointRefused, SinkRefused, SourceRefused, Unserved
from embedmq.bulk.holding import is_gone, new_token
from embedmq.bulk.order import Order, name_for
from embedmq.bulk.patience import Patience
from embedmq.bulk.rate import Rate
from embedmq.bulk.rows import Columns, Row, content_hash
from embedmq.bulk.selection import select
from embedmq.bulk.silence import Silence
from embedmq.errors import InvalidRequest, RequestFailed, Unavailable
from hypothesis import given
from hypothesis import strategies as st

HERE = {"model": "minilm", "source": "a.jsonl"}


def kept(state: State, limit: int | None = None) -> Checkpoint:
    return Checkpoint(definition=HERE, state=state, position={"row": 7}, counts=Counts(done=7), limit=limit)


@pytest.mark.parametrize(
    ("state", "old_limit", "mode", "limit", "goes_on"),
    [
        ("running", None, "all", None, True),
        ("running", None, "changed", None, False),
        ("done", None, "all", None, None),
        ("done", None, "changed", None, False),
        ("done", None, "missing", None, False),
        ("limited", 7, "all", 7, None),
        ("limited", 7, "all", 9, True),
        ("limited", 7, "all", None, True),
        ("limited", 7, "changed", 7, False),
    ],
)
def test_a_run_begins_where_the_last_one_ended(
    state: State, old_limit: int | None, mode: Mode, limit: int | None, goes_on: bool | None
) -> None:
    """It goes on (True), begins anew (False), or has nothing left to do (None)."""
    start = proceed(kept(state, old_limit), Checkpoint(definition=HERE, limit=limit), mode)
    assert (start.state == "running") == (goes_on is not None)
    assert start.position == (None if goes_on is False else {"row": 7})


def test_a_checkpoint_survives_its_file_and_tells_what_it_cannot_read() -> None:
    """A later version, or what is none, is named with the remedy."""
    assert decode(encode(kept("running"))) == kept("running")
    for broken in (b"{}", b"[", b'{"definition":{},"version":99}'):
        with pytest.raises(CheckpointRefused, match="--restart"):
            decode(broken)


texts = st.text(max_size=20)


@given(st.lists(texts), st.data())
def test_select_leaves_out_exactly_what_the_sink_has(found: list[str], data: st.DataObject) -> None:
    """`missing` by id, `changed` by hash as well; nothing is lost between chosen, skipped and wrong."""
    settings = b"s" * 32
    rows = [(Row(str(i), text), f"row {i}") for i, text in enumerate(found)]
    known = {row.id: data.draw(st.sampled_from([None, content_hash(settings, row.text), b"other"])) for row, _ in rows}
    known = {id: hash for id, hash in known.items() if data.draw(st.booleans())}
    for mode in ("all", "missing", "changed"):
        selection = select(rows, mode, known, settings, 10)
        assert len(selection.chosen) + len(selection.flaws) + selection.skipped == len(rows)
        chosen = {each.row.id for each in selection.chosen}
        fits = {row.id for row, _ in rows if len(row.text.encode("utf-8", "surrogatepass")) <= 10 and _whole(row.text)}
        if mode == "all":
            assert chosen == fits
        elif mode == "missing":
            assert chosen == fits - set(known)
        else:
            same = {row.id for row, _ in rows if known.get(row.id) == content_hash(settings, row.text)}
            assert chosen == fits - same


def _whole(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def test_a_hash_changes_with_text_model_revision_and_options(tmp_path: Path) -> None:
    """Else `--changed-only` would keep vectors that cannot be compared."""
    order = Order(model="a", source="s", sink="t", name="n", failed=tmp_path / "f")
    other = Order(model="a", source="s", sink="t", name="n", failed=tmp_path / "f", prompt="query: ")
    hashes = {
        content_hash(order.settings("1"), "text"),
        content_hash(order.settings("1"), "Text"),
        content_hash(order.settings("2"), "text"),
        content_hash(other.settings("1"), "text"),
    }
    assert len(hashes) == 4


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 2)), max_size=30))
def test_the_ceiling_holds_over_every_stretch(steps: list[tuple[int, float]]) -> None:
    """Between any two sendings: no more rows than the time allows, one second's worth, and the last request."""
    rate, now_s = Rate(20.0), 0.0
    sent: list[tuple[float, int]] = []
    for rows, wait_s in steps:
        now_s += wait_s
        now_s += rate.delay_s(rows, now_s)
        sent.append((now_s, rows))
    for i, (first_s, _) in enumerate(sent):
        for j in range(i, len(sent)):
            assert sum(rows for _, rows in sent[i:j]) <= 20 * (sent[j][0] - first_s + 1.0) + 1e-6


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("docs.jsonl", "jsonl"),
        ("data/*.csv.gz", "csv"),
        ("/folder/vectors.parquet/", "parquet"),
        ("x.ndjson", "jsonl"),
        ("postgres://me@db/x?table=t", "postgresql"),
        ("kafka://broker:9092/topic", "kafka"),
        ("kafka:///topic.csv", "kafka"),
        ("docs", ""),
    ],
)
def test_an_address_is_known_by_its_scheme_or_ending(address: str, kind: str) -> None:
    """A scheme wins."""
    assert kind_of(address) == kind


def test_an_address_that_nothing_works_with_names_what_does() -> None:
    """On either side, before anything is opened."""
    with pytest.raises(SourceRefused, match=r"--source docs\.txt.*csv, jsonl, kafka, parquet, postgresql"):
        make_source("docs.txt", Columns())
    with pytest.raises(SinkRefused, match=r"--sink nowhere.*qdrant"):
        make_sink("nowhere", Columns())


def test_a_job_is_named_after_its_command_and_never_by_a_secret(tmp_path: Path) -> None:
    """The same command is the same job; a password is in no name and no checkpoint."""
    one = name_for("minilm", "postgresql://me:s3cret@db/shop?table=docs", "v.parquet")
    assert one == name_for("minilm", "postgresql://me:other@db/shop?table=docs", "v.parquet")
    assert one != name_for("minilm", "postgresql://me:s3cret@db/shop?table=docs", "w.parquet")
    assert name_for("minilm", "data/docs.jsonl", "v.parquet").startswith("docs-minilm-")
    order = Order(model="m", source="postgresql://me:s3cret@db/x", sink="t", name=one, failed=tmp_path / "f")
    assert "s3cret" not in str(order.definition()) + one


def test_a_job_does_not_write_over_its_source(tmp_path: Path) -> None:
    """The failed rows of a job are the source of the next, which has failed rows of its own."""
    failed = tmp_path / "job.failed.jsonl"
    failed.touch()
    link = tmp_path / "link.jsonl"
    link.symlink_to(failed)
    with pytest.raises(InvalidRequest, match="--failed"):
        Order(model="m", source=str(link), sink="t", name="job", failed=failed)
    with pytest.raises(InvalidRequest, match="--failed"):
        Order(model="m", source=str(failed), sink="t", name="job", failed=failed)


async def test_patience_ends_and_begins_again_when_something_worked() -> None:
    """The error itself is what is raised then."""
    now_s = [0.0]
    patience = Patience(0.01, lambda: now_s[0])
    away = Unavailable("Redis")
    await patience.wait(away)
    assert patience.waiting_for == "Redis"
    now_s[0] = 0.02
    with pytest.raises(Unavailable, match="Redis"):
        await patience.wait(away)
    patience.well()
    assert patience.waiting_for == ""
    await patience.wait(away)


async def test_patience_has_no_end_while_it_is_known_how_long_to_wait() -> None:
    """A quota that fills up says when."""
    now_s = [0.0]
    patience = Patience(0.01, lambda: now_s[0])
    for now_s[0] in (0.0, 1.0, 2.0):
        await patience.wait(RequestFailed("over its quota", code="quota_exceeded", retryable=True), 0.0)


def test_only_a_process_that_is_seen_from_here_is_known_to_be_gone() -> None:
    """One that lives is not, and of another machine's or container's nothing is known."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from embedmq.bulk.holding import *; print(new_token())"], stdout=-1
    )
    token = process.communicate()[0].decode().strip()
    assert is_gone(token)
    assert not is_gone(new_token())
    assert not is_gone(token + "elsewhere")
    assert not is_gone("anything")


def test_a_fleet_that_is_busy_is_waited_for_and_one_that_is_not_there_only_so_long() -> None:
    """Whoever is on call reads why nothing moves, and a job that nobody serves ends."""
    silence = Silence("minilm", 60.0)
    silence.alone(0.0)
    assert "no worker serves minilm" in silence.waiting_for
    silence.busy("other work")
    silence.alone(50.0)
    silence.alone(109.0)
    with pytest.raises(Unserved, match="embedmq models"):
        silence.alone(110.0)
    silence.heard()
    assert silence.waiting_for == ""


def test_a_job_is_known_by_the_places_that_its_addresses_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However they are written; two projects may call their files alike."""
    monkeypatch.chdir(tmp_path)
    here = name_for("m", "docs.jsonl", "v.parquet")
    assert here == name_for("m", "./docs.jsonl", f"{tmp_path}/v.parquet")

    def definition(source: str) -> Mapping[str, str]:
        return Order(model="m", source=source, sink="t", name="n", failed=tmp_path / "f").definition()

    one = definition("docs.jsonl")
    monkeypatch.chdir(tmp_path.parent)
    assert here != name_for("m", "docs.jsonl", "v.parquet")
    assert one != definition("docs.jsonl")
    assert one == definition(f"{tmp_path}/docs.jsonl")
