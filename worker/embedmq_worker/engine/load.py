"""Which engine does a configured model get?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedmq_worker.engine import null
from embedmq_worker.engine.checkpoint import Checkpoint, locate
from embedmq_worker.errors import CheckpointInvalid

if TYPE_CHECKING:
    from embedmq_worker.config import Model
    from embedmq_worker.engine.seam import Engine


def load(model: Model, device: str) -> Engine:
    """Load one model onto a device: seconds to minutes, so never on the event loop.

    Raises:
        CheckpointInvalid: it does not exist, is not safe, or is no embedding model.
    """
    kind, _, rest = model.checkpoint.partition(":")
    if kind == "null":
        return null.parse(rest)
    return _load_transformer(locate(model.checkpoint), model, device)


def _load_transformer(checkpoint: Checkpoint, model: Model, device: str) -> Engine:
    # torch takes seconds to import: a worker of null models, and every command but `worker`, does without
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    from embedmq_worker.engine.padded import PaddedEngine

    disable_progress_bar()  # type: ignore[no-untyped-call]  # it ships no types; the log is lines of JSON
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        loaded = SentenceTransformer(
            checkpoint.source,
            device=device,
            revision=checkpoint.revision if checkpoint.hub else None,
            local_files_only=not checkpoint.hub,
            trust_remote_code=model.trust_remote_code,
            model_kwargs={"use_safetensors": True},
        )
    except Exception as error:  # the libraries beneath have errors of their own, torch has one for each device
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointInvalid(f"{model.checkpoint} on {device}: {first}") from error
    return PaddedEngine(loaded, checkpoint, model.max_tokens)
