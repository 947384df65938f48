"""How does sentence-transformers open a checkpoint, and what may it do meanwhile?"""

from __future__ import annotations

import sentence_transformers
import torch
from sentence_transformers.base.model import BaseModel
from transformers.utils.logging import disable_progress_bar

from embedmq_worker.engine.kinds import Kind
from embedmq_worker.errors import CheckpointBroken


def open_model(source: str, kind: Kind, device: str, dtype: str, *, trust_remote_code: bool) -> BaseModel:
    """Open a local folder with the class it belongs to: from safetensors alone, nothing fetched, its own code only if
    its configuration here allows that. `dtype` is torch's name of one, or `auto` for the checkpoint's own.

    Raises:
        CheckpointBroken: the installed sentence-transformers has no such class.
        Exception: whatever the libraries beneath raise.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call]  # it ships no types; the log is lines of JSON
    opener = getattr(sentence_transformers, kind, None)
    if opener is None:
        raise CheckpointBroken(f"{source}: the installed sentence-transformers has no {kind}; install a newer one")
    model: BaseModel = opener(
        source,
        device=device,
        local_files_only=True,
        trust_remote_code=trust_remote_code,
        model_kwargs={"use_safetensors": True, "dtype": "auto" if dtype == "auto" else getattr(torch, dtype)},
    )
    # its card holds it, and it its card: dropped, its weights would stay on the device until the collector comes by
    vars(model.model_card_data)["model"] = None
    return model.eval().requires_grad_(False)


def damaged(model: BaseModel) -> str | None:
    """Name of the first parameter with a NaN or an infinity in it; None where all are sound."""
    for name, weights in model.named_parameters():
        if weights.is_floating_point() and not bool(torch.isfinite(weights).all()):
            return name
    return None
