"""A model of a hub becomes a folder, or a named error: the real client against a hub on this machine."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedmq_worker.engine import hub
from embedmq_worker.errors import (
    CheckpointGated,
    CheckpointMissing,
    CheckpointUnreachable,
    RevisionMissing,
    WorkerError,
)

from tests.engine.hub_server import COMMIT, NAME, Hub, Mode, serve

PINNED, BRANCH = f"hf:{NAME}@{COMMIT}", f"hf:{NAME}@main"
TOKEN = "hf_secret0123"
FILES = {
    "config.json": b'{"model_type": "bert"}',
    "modules.json": b"[]",
    "model.safetensors": bytes(range(256)) * 64,
    "1_Pooling/config.json": b"{}",
    "vocab.txt": b"a\nb\n",
    "pytorch_model.bin": b"\x80",
    "modeling.py": b"raise RuntimeError",
    "README.md": b"# tiny",
}
DATA = {"config.json", "modules.json", "model.safetensors", "1_Pooling/config.json", "vocab.txt"}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Hub]:
    folder = tmp_path / "model"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    with serve(folder) as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("text", [PINNED, BRANCH])
def test_data_is_fetched_pickles_and_code_are_not(served: Hub, cache: Path, text: str) -> None:
    """What does not arrive cannot run. The folder is named by the commit, also where a branch was asked for."""
    folder = hub.fetch(text, endpoint=served.endpoint, cache=cache)
    assert names(folder) == served.fetched() == DATA
    assert folder.name == COMMIT
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_code_is_fetched_only_where_it_may_run(served: Hub, cache: Path) -> None:
    """Pickles are not even then."""
    folder = hub.fetch(PINNED, code=True, endpoint=served.endpoint, cache=cache)
    assert names(folder) == DATA | {"modeling.py"}


def test_a_pinned_model_that_is_there_is_not_asked_for_again(served: Hub, cache: Path) -> None:
    """A worker starts again, and a model comes back from eviction, without the hub."""
    folder = hub.fetch(PINNED, endpoint=served.endpoint, cache=cache)
    served.asked.clear()
    assert hub.fetch(PINNED, endpoint=served.endpoint, cache=cache) == folder
    assert hub.cached(PINNED, cache=cache) == folder
    assert served.asked == []


def test_a_part_that_is_missing_from_the_cache_is_fetched(served: Hub, cache: Path) -> None:
    """A download that was cut off goes on where it was."""
    folder = hub.fetch(PINNED, endpoint=served.endpoint, cache=cache)
    (folder / "vocab.txt").unlink()
    assert hub.cached(PINNED, cache=cache) is None
    served.asked.clear()
    hub.fetch(PINNED, endpoint=served.endpoint, cache=cache)
    assert names(folder) == DATA
    assert served.fetched() <= {"vocab.txt"}


@pytest.mark.parametrize("text", [PINNED, BRANCH])
def test_without_the_hub_the_cache_serves(served: Hub, cache: Path, text: str) -> None:
    """Whether it answers with errors or not at all."""
    folder = hub.fetch(text, endpoint=served.endpoint, cache=cache)
    served.mode = "error"
    assert hub.fetch(text, endpoint=served.endpoint, cache=cache) == folder
    assert hub.fetch(text, endpoint="http://127.0.0.1:9", cache=cache) == folder


@pytest.mark.parametrize(
    ("text", "mode", "kind", "says"),
    [
        (f"hf:{NAME}@{COMMIT[::-1]}", "ok", RevisionMissing, "no such revision"),
        (f"hf:{NAME}@v9", "ok", RevisionMissing, "no such revision"),
        (f"hf:org/other@{COMMIT}", "ok", CheckpointMissing, "HF_TOKEN"),
        (f"hf:not a name@{COMMIT}", "ok", CheckpointMissing, "hf:org/name@revision"),
        (f"hf:../../etc@{COMMIT}", "ok", CheckpointMissing, "hf:org/name@revision"),
        (PINNED, "gated", CheckpointGated, "HF_TOKEN"),
        (PINNED, "forbidden", CheckpointGated, "HF_TOKEN"),
        (PINNED, "bad token", CheckpointGated, "HF_TOKEN"),
        (PINNED, "error", CheckpointUnreachable, "500"),
    ],
)
def test_what_the_hub_refuses_has_a_name(
    served: Hub, cache: Path, text: str, mode: Mode, kind: type[WorkerError], says: str
) -> None:
    """With what was configured and what to do, in one line."""
    served.mode = mode
    with pytest.raises(kind, match=says) as found:
        hub.fetch(text, endpoint=served.endpoint, cache=cache)
    assert type(found.value) is kind
    assert str(found.value).startswith(text)
    assert "\n" not in str(found.value)


def test_a_hub_that_is_not_there_is_tried_again_later(cache: Path) -> None:
    """Nobody listens on that port."""
    with pytest.raises(CheckpointUnreachable, match="HF_ENDPOINT") as found:
        hub.fetch(PINNED, endpoint="http://127.0.0.1:9", cache=cache)
    assert found.value.retryable


def test_a_hub_that_stalls_is_not_waited_for(served: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It took the request and says nothing."""
    monkeypatch.setattr(hub, "TIMEOUT_S", 0.3)
    served.mode = "stalls"
    with pytest.raises(CheckpointUnreachable, match="did not answer"):
        hub.fetch(PINNED, endpoint=served.endpoint, cache=cache)


@pytest.mark.parametrize("mode", ["truncated", "corrupted"])
def test_bytes_that_were_harmed_on_the_way_are_fetched_anew(served: Hub, cache: Path, mode: Mode) -> None:
    """Too few are seen by the client, others by their checksum; neither stays in the cache."""
    served.mode = mode
    with pytest.raises(CheckpointUnreachable):
        hub.fetch(PINNED, endpoint=served.endpoint, cache=cache)
    served.mode = "ok"
    folder = hub.fetch(PINNED, endpoint=served.endpoint, cache=cache)
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_a_disk_that_cannot_be_written_is_named(served: Hub, tmp_path: Path) -> None:
    """Full, read-only or no folder at all: another time it may work."""
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointUnreachable, match=r"writing it failed: Not a directory|File exists"):
        hub.fetch(PINNED, endpoint=served.endpoint, cache=tmp_path / "file")


@pytest.mark.parametrize("mode", ["ok", "gated", "forbidden", "bad token", "error", "truncated"])
def test_the_token_reaches_the_hub_and_nobody_else(
    served: Hub, cache: Path, mode: Mode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a message nor a log has it."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    caplog.set_level(logging.DEBUG)
    served.mode = mode
    said = ""
    try:
        hub.fetch(PINNED, endpoint=served.endpoint, cache=cache)
    except WorkerError as error:
        said = f"{error!r} {error.__cause__!r}"
    assert served.tokens == {f"Bearer {TOKEN}"}
    assert TOKEN not in said + caplog.text


def test_a_token_that_no_header_can_hold_is_not_quoted(
    served: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The HTTP library quotes what it refuses."""
    monkeypatch.setenv("HF_TOKEN", "hf_s\u00e9cret")
    with pytest.raises(WorkerError) as found:
        hub.fetch(PINNED, endpoint=served.endpoint, cache=cache)
    assert "cret" not in str(found.value)
    assert found.value.__cause__ is None


@pytest.mark.parametrize("offline", ["", "1"])
def test_the_environment_names_the_hub_the_cache_and_whether_to_go_online(
    served: Hub, cache: Path, offline: str
) -> None:
    """As for every other program that uses the hub."""
    run = f"from embedmq_worker.engine import hub; print(hub.fetch({PINNED!r}))"
    env = {**os.environ, "HF_ENDPOINT": served.endpoint, "HF_HOME": str(cache), "HF_HUB_OFFLINE": offline}
    ended = subprocess.run(
        [sys.executable, "-c", run], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    if offline:
        assert "HF_HUB_OFFLINE is set" in ended.stderr
        assert served.asked == []
    else:
        assert Path(ended.stdout.strip()).is_relative_to(cache), ended.stderr
        assert ended.stderr == ""


@pytest.mark.parametrize("text", ["hf:org/name", "hf:org/name@", "hf:@abc", "hf:"])
def test_a_model_of_the_hub_needs_its_revision(text: str) -> None:
    """Vectors of two revisions must not meet in one index."""
    with pytest.raises(RevisionMissing, match="pin the revision"):
        hub.fetch(text)
