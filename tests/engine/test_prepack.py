"""Weights that were arranged before give what the layer gave."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from embedmq_worker.config import Model
from embedmq_worker.engine.load import load
from embedmq_worker.engine.prepack import Prepacked, prepack
from torch import nn

from tests.engine.checkpoints import make


class Own(nn.Linear):
    """A layer with a mind of its own."""


def model(dtype: torch.dtype, *, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(48, 96, bias=bias), nn.GELU(), nn.Sequential(nn.Linear(96, 32, bias=bias))).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 300])
@torch.inference_mode()
def test_any_number_of_rows_gives_what_it_gave(dtype: torch.dtype, bias: bool, rows: int) -> None:
    """Also those of layers within layers, and without a bias."""
    layers = model(dtype, bias=bias).eval()
    tokens = torch.randn(1, rows, 48).to(dtype)
    wanted = layers(tokens)
    if prepack(layers) == 0:
        pytest.skip(f"this processor, or this torch, arranges no weights of {dtype}")
    assert [type(layer) for layer in (layers[0], layers[2][0])] == [Prepacked] * 2  # type: ignore[index]  # a Sequential
    torch.testing.assert_close(layers(tokens), wanted, rtol=2e-2 if dtype == torch.bfloat16 else 1e-4, atol=2e-2)


def test_what_is_no_plain_layer_stays() -> None:
    """One that a model derived may compute something else; one on another device has no such operators."""
    layers = nn.Sequential(Own(4, 4), nn.Linear(4, 4, device="meta"), nn.Linear(4, 4, dtype=torch.float64))
    assert prepack(layers) == 0


def test_a_packed_model_on_a_cpu_is_prepacked_and_tells_its_size_all_the_same(tmp_path: Path) -> None:
    """Its weights are no parameters any more; memory is planned by what they take."""
    engine = load(Model(checkpoint=str(make(tmp_path, "bert")), dtype="float32"), "cpu")
    assert engine.facts.path == "packed"
    size = sum(file.stat().st_size for file in tmp_path.rglob("*.safetensors"))
    assert size * 0.9 < engine.facts.bytes <= size
    assert engine.facts.workspace_bytes > 0
