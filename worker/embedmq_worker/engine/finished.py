"""How do finished vectors reach the host, and each slice its own?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from embedmq_schemas.results import Sparse
from embedmq_schemas.vectors import Array
from numpy.typing import NDArray
from torch import Tensor

from embedmq_worker.engine.seam import Block, Encoded, Slice
from embedmq_worker.engine.sound import name_overflown
from embedmq_worker.engine.void import void_number

Span = tuple[int, int]
"""From … up to."""

Floats = NDArray[np.float32]
Number = TypeVar("Number", bound=np.number)


class Styled(NamedTuple):
    """Rows that are finished alike, those of several slices one after another."""

    data: Tensor
    scales: Tensor | None
    numbers: list[int]
    """Which slices, in order."""

    def to_host(self) -> Styled:
        """Start copying."""
        return Styled(to_host(self.data), None if self.scales is None else to_host(self.scales), self.numbers)

    def numpy(self) -> tuple[Array, Floats | None]:
        """View what arrived."""
        return self.data.numpy(), None if self.scales is None else self.scales.numpy()


@dataclass(frozen=True, slots=True)
class Finished:
    """Vectors of one batch, on the device or on their way from it."""

    batch: Sequence[Slice]
    spans: Sequence[Span]
    """Which sequences are each slice's."""
    offsets: Sequence[int] = ()
    """Of `multivector`: where the tokens of each sequence begin, and where the last one's end."""
    dense: Sequence[Styled] = ()
    multivector: Sequence[Styled] = ()
    kept: Tensor | None = None
    sparse: Tensor | None = None
    scores: Tensor | None = None
    sound: Sequence[Tensor] = ()
    """Of each output whether its rows are numbers."""
    arrival: torch.cuda.Event | None = None

    def to_host(self) -> Finished:
        """Start copying to the host. On CUDA it returns at once: the copies follow what computes the vectors."""
        loose = (self.kept, self.sparse, self.scores)
        kept, sparse, scores = (None if tensor is None else to_host(tensor) for tensor in loose)
        tensors = [*loose, *(rows.data for rows in (*self.dense, *self.multivector))]
        device = next((tensor.device for tensor in tensors if tensor is not None and tensor.is_cuda), None)
        return replace(
            self,
            dense=[rows.to_host() for rows in self.dense],
            multivector=[rows.to_host() for rows in self.multivector],
            kept=kept,
            sparse=sparse,
            scores=scores,
            sound=[to_host(flags) for flags in self.sound],
            arrival=None if device is None else torch.cuda.current_stream(device).record_event(),
        )

    def collect(self) -> list[Encoded]:
        """Wait for the copies and hand out what each slice asked for; every array owns its memory.

        Items on which the model overflowed get their fault here: nobody knew before.
        """
        if self.arrival is not None:
            self.arrival.synchronize()
        none: list[None] = [None] * len(self.batch)
        dense = self._collect_dense() if self.dense else none
        sparse = self._collect_sparse(self.sparse) if self.sparse is not None else none
        multivector = self._collect_multivector() if self.multivector else none
        scores = self._collect_scores(self.scores) if self.scores is not None else none
        name_overflown([flags.numpy() for flags in self.sound], self.batch, self.offsets)
        return list(map(Encoded, dense, sparse, multivector, scores))

    def _collect_dense(self) -> list[Block | None]:
        blocks: list[Block | None] = [None] * len(self.batch)
        for styled in self.dense:
            data, scales = styled.numpy()
            stop = 0
            for number in styled.numbers:
                first, last = self.spans[number]
                start, stop = stop, stop + last - first
                part = self.batch[number]
                rows, scale = data[start:stop], None if scales is None else scales[start:stop]
                if part.prepared.faults:
                    rows = _spread(rows, part, void_number(data.dtype))
                    scale = None if scale is None else _spread(scale, part, 0)
                else:
                    rows, scale = rows.copy(), None if scale is None else scale.copy()
                blocks[number] = Block(rows, scale)
        return blocks

    def _collect_sparse(self, tensor: Tensor) -> list[list[Sparse] | None]:
        rows: Floats = tensor.numpy()
        of, words = np.nonzero(rows)
        weights = rows[of, words]
        ends = np.searchsorted(of, np.arange(len(rows) + 1)).tolist()
        found = [Sparse(words[a:b].tolist(), weights[a:b].tolist()) for a, b in pairwise(ends)]
        answers: list[list[Sparse] | None] = [None] * len(self.batch)
        for number, part in enumerate(self.batch):
            if "sparse" in part.options.outputs:
                first, _ = self.spans[number]
                good = iter(found[first:])
                faults = part.prepared.faults
                answers[number] = [Sparse([], []) if i in faults else next(good) for i in range(part.start, part.stop)]
        return answers

    def _collect_multivector(self) -> list[list[Block] | None]:
        kept = np.ones(self.offsets[-1], np.bool_) if self.kept is None else self.kept.numpy()
        answers: list[list[Block] | None] = [None] * len(self.batch)
        for styled in self.multivector:
            data, scales = styled.numpy()
            stop = 0
            for number in styled.numbers:
                sequence, part = self.spans[number][0], self.batch[number]
                blocks: list[Block] = []
                for item in range(part.start, part.stop):
                    start = stop
                    mask = kept[:0]
                    if item not in part.prepared.faults:
                        mask = kept[self.offsets[sequence] : self.offsets[sequence + 1]]
                        sequence += 1
                    stop += len(mask)
                    blocks.append(Block(data[start:stop][mask], None if scales is None else scales[start:stop][mask]))
                answers[number] = blocks
        return answers

    def _collect_scores(self, tensor: Tensor) -> list[Floats]:
        scores: Floats = tensor.numpy()
        return [
            _spread(scores[first:last], part, np.nan) if part.prepared.faults else scores[first:last].copy()
            for part, (first, last) in zip(self.batch, self.spans, strict=True)
        ]


def to_host(tensor: Tensor) -> Tensor:
    """Start copying; on CUDA into memory that the system cannot move, or the copy would wait for itself."""
    if not tensor.is_cuda:
        return tensor.cpu()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


def _spread(good: NDArray[Number], part: Slice, void: float) -> NDArray[Number]:
    """Rows of the items that did not fail, void ones between."""
    rows = np.full((part.stop - part.start, *good.shape[1:]), void, good.dtype)
    rows[[i - part.start for i in range(part.start, part.stop) if i not in part.prepared.faults]] = good
    return rows
