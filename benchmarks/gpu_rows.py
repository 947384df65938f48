"""What is measured on a GPU beside the engine's usual rows?"""

from __future__ import annotations

import importlib.util
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, Literal

import torch
from embedmq_worker.config import Model
from embedmq_worker.errors import CheckpointInvalid

from benchmarks import docstrings, instruments, plain
from benchmarks.checkpoints import Recipe, folder, minilm_is_there, tokenizer, write
from benchmarks.direct import Direct, overlapped
from benchmarks.engine import Measure
from benchmarks.fill import fill
from benchmarks.harness import Scale, Skipped
from benchmarks.plain import Dtype, Kind, Setting
from benchmarks.report import Row, Run, row
from benchmarks.rivals import Rivals
from benchmarks.work import Work, singly

Device = Literal["cuda", "cpu"]
SHORT_TOKENS, LONG_TOKENS = 50, 512
TOKENS: Final = ("engine.tokens_50", "engine.peak_share_50", "engine.tokens_512", "engine.peak_share_512")
PEAK = "torch.mm of two 8192 x 8192 matrices in the same dtype"


@dataclass(frozen=True, kw_only=True)
class GpuScale(Scale):
    """How much is measured: about five minutes on a large GPU."""

    texts: int = 20_000
    long_texts: int = 4_000
    wide_texts: int = 8_000
    online_calls: int = 50
    queries: int = 64
    documents: int = 100
    tokens: int = 1_000_000
    """Of each run of the rows that count tokens."""
    batches: int = 20
    """In the timeline, and launched under torch's debug mode."""
    batch_sizes: tuple[int, ...] = (32, 128, 512)
    """What sentence-transformers is tried with, each in every dtype."""


@dataclass(frozen=True)
class Gpu:
    """Where it is measured; `device` is `cpu` only to prove the code."""

    device: Device
    out: Path
    say: Callable[[str], None]

    @property
    def dtypes(self) -> tuple[Dtype, ...]:
        """What sentence-transformers is tried with; ours counts tokens in the first, as the public figures do."""
        return ("bfloat16", "float16") if self.device == "cuda" else ("float32",)


def raced(measure: Measure, gpu: Gpu, scale: GpuScale) -> list[Row]:
    """Rows that are measured on a CPU, too.

    Raises:
        Skipped: they need MiniLM's weights, and those are not installed.
    """
    try:
        return measure(gpu, scale, partial(together, gpu, scale, "auto"))
    except CheckpointInvalid as error:
        if minilm_is_there():
            raise
        raise Skipped(str(error)) from error


def tokens(gpu: Gpu, scale: GpuScale) -> list[Row]:
    """Tokens a second of BERT-base, tokenizing included, on texts of exactly 50 and 512; and what share that is of what
    the device reaches in bare matrix products in the same run.
    """
    rows: list[Row] = []
    with together(gpu, scale, gpu.dtypes[0], _bert(scale), gpu.say) as both:
        for length, goal in ((SHORT_TOKENS, 2.0), (LONG_TOKENS, 1.5)):
            calls = singly(exactly(length, max(2, scale.tokens // length)))
            name = f"engine.tokens_{length}"
            best = both.best(calls)
            rate = both.race(name, calls, best, scale.runs, goal=goal, unit="tokens/s", weight=length)
            needed = scale.bert.flop([length]) / length / 1e12
            dtype = getattr(torch, gpu.dtypes[0])
            runs = [Run(run.value * needed, instruments.peak_flop_per_s(gpu.device, dtype) / 1e12) for run in rate.runs]
            rows += [rate, row(f"engine.peak_share_{length}", "TFLOP/s", "higher", runs, PEAK)]
    return rows


def launches(gpu: Gpu, scale: GpuScale) -> list[Row]:
    """How many launches make the host wait for the device; and a timeline of as many batches.

    Raises:
        Skipped: this is no GPU (after all has run all the same).
    """
    with folder(_bert(scale), write) as there:
        direct = Direct(Model(checkpoint=there, dtype=gpu.dtypes[0]), overlapped, gpu.device)
        texts = docstrings.choose(1 + scale.batches * direct.limit.tokens // SHORT_TOKENS)
        (asks,) = singly(texts)
        prepared = zip(asks, direct.engine.prepare(asks), strict=True)
        batches = list(islice(fill(prepared, direct.limit), scale.batches))
        direct(Work([asks], None))
        instruments.timeline(gpu.device, partial(direct, Work([asks], None)), gpu.out / "timeline.json.gz")
        found = instruments.waits(gpu.device, direct.engine, batches)
        direct.engine.close()
    for words in dict.fromkeys(found):
        gpu.say(f"  {words}")
    _only_on_a_gpu(gpu)
    return [row("engine.waiting_launches", f"of {len(batches)}", "lower", [Run(len(found))])]


def memory(gpu: Gpu, scale: GpuScale) -> list[Row]:
    """Most memory in tensors, of BERT-base on texts of 512 tokens; each side alone on the device.

    Raises:
        Skipped: this is no GPU (after both have run all the same).
    """
    calls = singly(exactly(LONG_TOKENS, max(2, scale.tokens // LONG_TOKENS // 4)))
    with folder(_bert(scale), write) as there:
        theirs = plain.start("embeds", there, gpu.device)
        setting = plain.fastest(theirs, calls, _choice(gpu, scale))
        del theirs  # with it goes what the sweep loaded, in both dtypes
        instruments.release(gpu.device)
        alone = plain.start("embeds", there, gpu.device)
        baseline = instruments.peak_mib(gpu.device, partial(alone, Work(calls, setting)))
        del alone
        instruments.release(gpu.device)
        direct = Direct(Model(checkpoint=there, dtype=gpu.dtypes[0]), overlapped, gpu.device)
        value = instruments.peak_mib(gpu.device, partial(direct, Work(calls, None)))
        direct.engine.close()
    instruments.release(gpu.device)
    _only_on_a_gpu(gpu)
    return [row("engine.memory_mib", "MiB", "lower", [Run(value, baseline)], f"sentence-transformers, {setting}")]


def exactly(length: int, count: int) -> list[str]:
    """Texts of that many tokens each, the two special ones included: of words that are one token each."""
    cut = tokenizer()
    words = sorted(word for word in cut.get_vocab() if word.isascii() and word.isalpha())
    chance = random.Random(docstrings.SEED)
    texts = [" ".join(chance.choices(words, k=length - 2)) for _ in range(count)]
    found = {len(ids) for ids in cut(texts[:100]).input_ids}
    if found != {length}:
        raise ValueError(f"texts of {length} tokens have {found}")
    return texts


@contextmanager
def together(
    gpu: Gpu,
    scale: GpuScale,
    dtype: Dtype | Literal["auto"],
    source: str | Recipe,
    say: Callable[[str], None],
    kind: Kind = "embeds",
) -> Iterator[Rivals]:
    """Both in this process, on one device."""
    with folder(source, write) as there:
        theirs = plain.start(kind, there, gpu.device)
        ours = Direct(Model(checkpoint=there, dtype=dtype), overlapped, gpu.device)
        try:
            yield Rivals(ours, theirs, (os.getpid(), os.getpid()), _choice(gpu, scale), say)
        finally:
            ours.engine.close()
            instruments.release(gpu.device)


def _choice(gpu: Gpu, scale: GpuScale) -> list[Setting]:
    flash = gpu.device == "cuda" and importlib.util.find_spec("flash_attn") is not None
    return plain.settings(gpu.dtypes, scale.batch_sizes, flash=flash)


def _bert(scale: GpuScale) -> Recipe:
    return Recipe("bert", scale.bert, LONG_TOKENS)


def _only_on_a_gpu(gpu: Gpu) -> None:
    if gpu.device != "cuda":
        raise Skipped("only CUDA counts that")
