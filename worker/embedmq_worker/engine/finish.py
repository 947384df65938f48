"""How does a model's vector become the vector that a request asked for? Slice, normalise, cast: in this order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import torch
from embedmq_schemas.vectors import Dtype
from torch import Tensor

from embedmq_worker.engine.finished import Finished, Span, Styled
from embedmq_worker.engine.rows import Raw
from embedmq_worker.engine.seam import Slice
from embedmq_worker.engine.sound import sound

SMALLEST_LENGTH = 1e-12
"""A vector of zeros has no direction: it stays one."""


class Style(NamedTuple):
    """How one request wants its rows."""

    dimensions: int | None
    normalize: bool
    dtype: Dtype


def finish(raw: Raw, batch: Sequence[Slice], normalizes: frozenset[str]) -> Finished:
    """Finish what one forward pass made of a batch, each slice by its own options, on the device.

    Rows of slices that want the same are finished together, however many requests they come from. `raw` has a sequence
    for each item without a fault, slice after slice. `normalizes` are the outputs whose vectors the model itself
    normalises; `normalize=None` does what the model does. Slicing comes before normalising, so that a sliced vector has
    length one again (Kusupati et al., Matryoshka Representation Learning, 2022).
    """
    spans = _spans(batch)
    dense = [] if raw.dense is None else _by_style(raw.dense, "dense", batch, spans, normalizes)
    multivector: list[Styled] = []
    offsets: list[int] = []
    if raw.tokens is not None:
        offsets = [0, *accumulate(length for part in batch for length in _lengths(part))]
        rows = [(offsets[first], offsets[last]) for first, last in spans]
        multivector = _by_style(raw.tokens, "multivector", batch, rows, normalizes)
    return Finished(batch, spans, offsets, dense, multivector, raw.kept, raw.sparse, raw.scores, sound(raw))


def cast(rows: Tensor, style: Style) -> tuple[Tensor, Tensor | None]:
    """Rows as wished, and the scales that `int8` has."""
    rows = rows[:, : style.dimensions]
    if style.normalize:
        rows = torch.nn.functional.normalize(rows, dim=1, eps=SMALLEST_LENGTH)
    if style.dtype == "int8":
        return _quantize(rows)
    if style.dtype == "ubinary":
        return _pack(rows), None
    return rows.to(torch.float16 if style.dtype == "float16" else torch.float32), None


def _quantize(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric per row: the largest magnitude becomes 127."""
    safe = rows.nan_to_num()
    scales = safe.abs().amax(1).clamp_min(SMALLEST_LENGTH) / 127
    return (safe / scales[:, None]).round().to(torch.int8), scales


def _pack(rows: Tensor) -> Tensor:
    """Eight dimensions a byte, the first in the highest bit, 1 where the number is above zero; as `numpy.packbits`."""
    bits = torch.nn.functional.pad((rows > 0).to(torch.uint8), (0, -rows.shape[1] % 8))
    places = torch.arange(7, -1, -1, dtype=torch.uint8, device=rows.device)
    return (bits.view(len(rows), bits.shape[1] // 8, 8) << places).sum(2, dtype=torch.uint8)


def _spans(batch: Sequence[Slice]) -> list[Span]:
    """Which sequences are each slice's: one for each item that did not fail."""
    spans: list[Span] = []
    last = 0
    for part in batch:
        first = last
        last += len(_lengths(part)) if part.prepared.faults else part.stop - part.start
        spans.append((first, last))
    return spans


def _lengths(part: Slice) -> list[int]:
    faults = part.prepared.faults
    return [part.prepared.tokens[i] for i in range(part.start, part.stop) if i not in faults]


def _by_style(
    rows: Tensor, output: str, batch: Sequence[Slice], spans: Sequence[Span], normalizes: frozenset[str]
) -> list[Styled]:
    """Finish together the rows of the slices that want the same."""
    styles: dict[Style, list[int]] = {}
    for number, part in enumerate(batch):
        options = part.options
        if output in options.outputs:
            normalize = output in normalizes if options.normalize is None else options.normalize
            styles.setdefault(Style(options.dimensions, normalize, options.dtype), []).append(number)
    return [
        Styled(*cast(_pick(rows, [spans[number] for number in numbers]), style), numbers)
        for style, numbers in styles.items()
    ]


def _pick(rows: Tensor, spans: Sequence[Span]) -> Tensor:
    """The rows of several spans, one after another; a view where they lie so."""
    if all(one[1] == other[0] for one, other in pairwise(spans)):
        return rows[spans[0][0] : spans[-1][1]]
    index = torch.from_numpy(np.concatenate([np.arange(first, last) for first, last in spans]))
    if rows.is_cuda:  # from memory that can be moved, the copy would wait for the device
        index = index.pin_memory().to(rows.device, non_blocking=True)
    return rows[index]
