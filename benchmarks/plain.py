"""How fast is sentence-transformers on the same work, at the setting that suits it best?"""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Literal

from embedmq_worker.engine.seam import Ask
from msgspec import Struct

from benchmarks.work import Calls, Work, pairs, texts

Dtype = Literal["float32", "bfloat16", "float16"]
Kind = Literal["embeds", "scores"]
Encode = Callable[[Sequence[Ask], int], object]
"""A call and a batch size."""

WARM_REQUESTS = 8


class Setting(Struct, frozen=True):
    """What one may choose there."""

    batch_size: int = 32
    dtype: Dtype = "float32"
    attention: Literal["sdpa", "flash_attention_2"] = "sdpa"

    def __str__(self) -> str:
        unpadded = ", FlashAttention 2" if self.attention == "flash_attention_2" else ""
        return f"{self.dtype}, batches of {self.batch_size}{unpadded}"


def settings(dtypes: Sequence[Dtype], batch_sizes: Sequence[int], *, flash: bool = False) -> list[Setting]:
    """All combinations; those with FlashAttention 2, which does without padding, where it is installed."""
    padded = [Setting(size, dtype) for dtype in dtypes for size in batch_sizes]
    return padded + [Setting(each.batch_size, each.dtype, "flash_attention_2") for each in padded if flash]


ON_CPU = tuple(settings(("float32", "bfloat16"), (8, 32, 128)))


def fastest(seconds: Callable[[Work[Setting]], float], calls: Calls, choice: Sequence[Setting]) -> Setting:
    """Try each on the same calls, after a few requests that do not count."""

    def measured(setting: Setting) -> float:
        seconds(Work([calls[0][:WARM_REQUESTS]], setting))
        return seconds(Work(calls, setting))

    return min(choice, key=measured)


def start(kind: Kind, folder: str, device: str | None = None) -> Callable[[Work[Setting]], float]:
    """Called with work, it says how many seconds that took, loading left out; infinitely many where the device has too
    little memory for the setting.
    """
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # before transformers is imported: it looks only then
    import torch

    make = _embedder if kind == "embeds" else _ranker
    loaded = functools.cache(functools.partial(make, folder, device))

    def seconds(work: Work[Setting]) -> float:
        encode = loaded(work.setting.dtype, work.setting.attention)
        start_s = time.perf_counter()
        try:
            for call in work.calls:
                encode(call, work.setting.batch_size)
        except torch.OutOfMemoryError:
            return math.inf
        return time.perf_counter() - start_s

    return seconds


def _embedder(folder: str, device: str | None, dtype: Dtype, attention: str) -> Encode:
    from sentence_transformers import SentenceTransformer

    kwargs = {"dtype": dtype, "attn_implementation": attention}
    model = SentenceTransformer(folder, device=device, local_files_only=True, model_kwargs=kwargs)
    return lambda call, size: model.encode(texts(call), batch_size=size, show_progress_bar=False)


def _ranker(folder: str, device: str | None, dtype: Dtype, attention: str) -> Encode:
    from sentence_transformers import CrossEncoder

    kwargs = {"dtype": dtype, "attn_implementation": attention}
    model = CrossEncoder(folder, device=device, local_files_only=True, model_kwargs=kwargs)
    return lambda call, size: model.predict(pairs(call), batch_size=size, show_progress_bar=False)
