"""How are a model's matrix products made faster on a CPU? Their weights are laid out once, not for every batch.

torch hands products to oneDNN, which wants weights in blocks that suit the processor and arranges them anew at every
call. The operators that torch.compile uses take weights that were arranged before: the same arithmetic, about a tenth
faster. They are no public interface, so whatever is wrong with them leaves a layer as it was.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Prepacked(nn.Linear):
    """A linear layer for inference whose weights are in oneDNN's own order."""

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.bias = layer.bias
        # no parameter: it can neither be read nor saved, but models may ask for its dtype
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), None)
        self.weight = packed

    def forward(self, input: Tensor) -> Tensor:
        """Rows times weights, plus bias."""
        product: Tensor = torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")
        return product


@torch.inference_mode()
def prepack(model: nn.Module) -> int:
    """Exchange a model's linear layers where that is possible; returns how many were."""
    exchanged = 0
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear and (packed := _packed(layer)) is not None:
                setattr(parent, name, packed)
                exchanged += 1
    return exchanged


def _packed(layer: nn.Linear) -> Prepacked | None:
    """A layer that gave the same for a trial; None where it cannot be had."""
    if layer.weight.device.type != "cpu" or layer.weight.dtype not in DTYPES:
        return None
    trial = torch.ones(1, 2, layer.in_features, dtype=layer.weight.dtype)
    try:
        packed = Prepacked(layer)
        same = torch.allclose(packed(trial).float(), layer(trial).float(), rtol=2e-2, atol=2e-2)
    except (AttributeError, RuntimeError):  # another torch, or another processor
        return None
    return packed if same else None
