"""How do transformers' models come to attend within sequences that lie end to end?"""

from __future__ import annotations

from torch import Tensor, nn
from transformers import AttentionInterface

from embedmq_worker.engine.kernels import AttentionUnsupported, Pattern, Sequences

NAME = "embedmq_packed"
"""Under which transformers finds `attend`."""


def register() -> None:
    """Make `attend` known to transformers as `NAME`; twice does no harm.

    No mask function is registered: transformers then makes no masks at all for it, which on a device would wait for
    a look at the positions.
    """
    AttentionInterface.register(NAME, attend)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    sequences: Sequences,
    scaling: float | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    **more: object,
) -> tuple[Tensor, None]:
    """Attention as transformers' models call it, over sequences that lie end to end.

    Raises:
        AttentionUnsupported: the model asks for what no kernel here can do.
    """
    asked = [name for name in ("position_bias", "softcap", "s_aux") if more.get(name) is not None]
    if attention_mask is not None or asked:
        raise AttentionUnsupported(f"its attention wants {', '.join(asked) or 'a mask of its own'}")
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    return sequences.kernel(query, key, value, sequences, Pattern(causal, sliding_window, scaling)), None
