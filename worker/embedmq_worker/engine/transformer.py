"""How do the items of many requests pass through a transformer? Gathered, packed, one forward pass, finished."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from embedmq_worker.engine.failures import classify
from embedmq_worker.engine.finish import finish
from embedmq_worker.engine.finished import Finished
from embedmq_worker.engine.layout import pack
from embedmq_worker.engine.rows import Forward, Layout
from embedmq_worker.engine.seam import Ask, Done, Encoded, Ids, ModelFacts, Prepared, Running, Slice
from embedmq_worker.engine.tokens import Texts
from embedmq_worker.engine.void import void
from embedmq_worker.errors import DeviceLost, OutOfMemory

Value = TypeVar("Value")


class TransformerEngine:
    """A model whose hot path is ours: `packed` or `padded`, as `forward` does it."""

    def __init__(
        self, forward: Forward, texts: Texts, normalizes: frozenset[str], device: torch.device, facts: ModelFacts
    ) -> None:
        self._forward: Forward | None = forward
        self._texts, self._normalizes, self._device = texts, normalizes, device
        self.facts = facts

    def prepare(self, asks: Sequence[Ask]) -> list[Prepared]:
        """Tokenize; see `Texts.prepare`."""
        return self._texts.prepare(asks)

    def launch(self, batch: Sequence[Slice]) -> Running:
        """One forward pass for all slices. On CUDA nothing here waits for the device; `collect` does."""
        return computing(lambda: self._launch(batch))

    def free_cache(self) -> None:
        """Give back what torch keeps for later; on a CPU it keeps nothing."""
        computing(lambda: free_cache(self._device))

    def close(self) -> None:
        """Let the weights go; batches that were launched end undisturbed."""
        self._forward = None
        gc.collect()  # modules and what they are wrapped in know each other
        with suppress(DeviceLost):  # there is nothing to be had back
            self.free_cache()

    @torch.inference_mode()
    def _launch(self, batch: Sequence[Slice]) -> Running:
        if self._forward is None:
            raise RuntimeError("the engine is closed")
        gathered = gather(batch)
        if not gathered.rows:
            return Done([void(self.facts, part.options, part.stop - part.start) for part in batch])
        outputs = frozenset(("scores",)) if self.facts.scores else wanted(batch)
        raw = self._forward(gathered.pack(self._device), outputs)
        return Underway(finish(raw, batch, self._normalizes).to_host())


@dataclass(frozen=True, slots=True)
class Gathered:
    """The token rows of a batch, slice after slice, without the items that have a fault."""

    rows: list[Ids] = field(default_factory=list[Ids])
    firsts: list[int] = field(default_factory=list[int])
    skips: list[int] = field(default_factory=list[int])

    def pack(self, device: torch.device) -> Layout:
        """Lay them end to end on the device."""
        return pack(self.rows, device, firsts=self.firsts or None, skips=self.skips if any(self.skips) else None)


def gather(batch: Sequence[Slice]) -> Gathered:
    """Take out of each slice what is to be computed."""
    gathered = Gathered()
    for part in batch:
        prepared = part.prepared
        good = [i for i in range(part.start, part.stop) if i not in prepared.faults]
        ids = prepared.ids or []
        gathered.rows.extend(ids[i] for i in good)
        if prepared.firsts is not None:
            gathered.firsts.extend(prepared.firsts[i] for i in good)
        gathered.skips.extend([0] * len(good) if prepared.skips is None else (prepared.skips[i] for i in good))
    return gathered


def wanted(batch: Sequence[Slice]) -> frozenset[str]:
    """Every output that some slice asks for."""
    return frozenset(output for part in batch for output in part.options.outputs)


class Underway:
    """A batch that the device computes, or whose vectors are on their way from it."""

    def __init__(self, finished: Finished) -> None:
        self._finished = finished

    def collect(self) -> list[Encoded]:
        """Wait for them, and hand them out."""
        return computing(self._finished.collect)


def computing(work: Callable[[], Value]) -> Value:
    """Do something on a device.

    Raises:
        OutOfMemory: there was too little, of the device's or the machine's.
        DeviceLost: it computes nothing more for this process.
        Exception: whatever else went wrong, as it came.
    """
    try:
        return work()
    except Exception as error:
        named = classify(error, "a batch")
        if not isinstance(named, OutOfMemory | DeviceLost):
            raise
        kind, said = type(named), str(named)
    # not inside of `except`: there, the frames that failed would still hold their tensors
    raise kind(said)


def free_cache(device: torch.device) -> None:
    """Give back what torch keeps of a device's memory for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
