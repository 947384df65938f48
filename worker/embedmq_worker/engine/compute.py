"""What should a model compute in, how fast is it then, and how much memory does a batch take beside the weights?"""

from __future__ import annotations

import time

import torch
from torch import nn

from embedmq_worker.config import Worker
from embedmq_worker.engine.seam import Ask, Engine, Options, Slice

DTYPES = {"cpu": ("float32", "bfloat16"), "cuda": ("bfloat16", "float16", "float32")}
"""Candidates of `dtype = "auto"` on each kind of device, the one to prefer first; elsewhere float32."""

WINS = 1.25
"""How many times faster another dtype must be than the preferred one: a measurement is hardly surer than that, and a
worker that chose otherwise after a restart would give slightly other vectors."""

TEXT = "A river carries what it is given to the sea, and asks for nothing but a slope; storms lend it speed. " * 3
"""Of middling length: some 64 tokens."""

MEASURE_TEXTS, MEASURE_PASSES = 4, 3

FULL_BATCH_TOKENS = 16_384


def candidates(wanted: str, device: torch.device) -> tuple[str, ...]:
    """Which dtypes to try: the one that is configured, else those that suit the device, the preferred one first."""
    return (wanted,) if wanted != "auto" else DTYPES.get(device.type, ("float32",))


def beats(rate: float, preferred: float) -> bool:
    """Whether a rate is clearly above that of what is preferred."""
    return rate >= WINS * preferred


def full_batch_tokens(tokens_per_s: float, max_tokens: int) -> int:
    """Tokens of the largest batch to expect: what fits the time that a batch may take, at least one longest text."""
    return max(min(FULL_BATCH_TOKENS, int(tokens_per_s * Worker().max_batch_ms / 1000)), max_tokens)


def rate(engine: Engine) -> float:
    """Tokens per second on texts of middling length, in batches of about the time that one may take.

    The best of a few passes: others disturb a measurement, nobody helps it.
    """
    tokens, seconds = _best_pass(engine, MEASURE_TEXTS, passes=1)
    texts = int(MEASURE_TEXTS * Worker().max_batch_ms / 1000 / seconds)
    most = max(FULL_BATCH_TOKENS * MEASURE_TEXTS // tokens, MEASURE_TEXTS)
    tokens, seconds = _best_pass(engine, min(max(texts, MEASURE_TEXTS), most))
    return tokens / seconds


def workspace_bytes(engine: Engine, model: nn.Module, device: torch.device, tokens: int) -> int:
    """Most memory that a batch of so many tokens takes beside the weights: measured on CUDA, else by shapes."""
    if device.type != "cuda":
        return tokens * token_bytes(model)
    per_text = _best_pass(engine, 1, passes=1)[0]
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    _best_pass(engine, max(1, tokens // per_text), passes=1)
    return torch.cuda.max_memory_allocated(device) - before


def token_bytes(model: nn.Module) -> int:
    """Bytes that one token takes while it passes through a model, in float32.

    One layer lives at a time: its input and output, queries, keys and values, what attention gives, two normed copies;
    and the widest thing that any layer gives, before and after its activation. Of a masked language model that is a row
    of the vocabulary.
    """
    shapes = [(layer.in_features, layer.out_features) for layer in model.modules() if isinstance(layer, nn.Linear)]
    hidden = min((max(shape) for shape in shapes), default=0)
    widest = max((max(shape) for shape in shapes), default=0)
    return 4 * (8 * hidden + 2 * widest)


def _best_pass(engine: Engine, texts: int, passes: int = MEASURE_PASSES) -> tuple[int, float]:
    """How many tokens so many texts have, and how many seconds the fastest pass took; a first one warms up."""
    options = Options(outputs=engine.facts.outputs)
    query = "what does it ask for?" if engine.facts.scores else None
    (prepared,) = engine.prepare([Ask([TEXT] * texts, options, query)])
    took_s: list[float] = []
    for _ in range(1 + passes):
        start_s = time.perf_counter()
        engine.launch([Slice(prepared, options, 0, texts)]).collect()
        took_s.append(time.perf_counter() - start_s)
    return sum(prepared.tokens), min(took_s[1:])
