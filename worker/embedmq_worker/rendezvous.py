"""Which workers does a model prefer, whoever asks? Weighted rendezvous hashing. Pure.

Each pair of a key and a worker has a number that looks random and depends on nothing else, so a worker that comes or
goes changes only the preferences that name it, and leaders of two groups agree without a word. With `u` uniform in
(0, 1), `weight / -ln(u)` gives each worker first places in proportion to its weight (C. Schindelhauer and G. Schomaker,
"Weighted distributed hash tables", SPAA 2005). The mixing is the finalizer of SplitMix64 (G. Steele, D. Lea and
C. Flood, OOPSLA 2014).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

BLOCK: Final = 256
"""Keys that are scored together: less overhead for each, and little memory."""


class Rendezvous:
    """The preferences among some workers, each with a weight above 0."""

    def __init__(self, workers: Sequence[str], weights: Sequence[float]) -> None:
        self._workers = hashes(workers)
        self._weights = np.array(weights, dtype=np.float64)
        self._equal = len(set(weights)) <= 1

    def best(self, keys: NDArray[np.uint64], eligible: Sequence[NDArray[np.bool_]], most: int) -> Iterator[list[int]]:
        """For each key, up to `most` of the workers that are eligible for it, the preferred first."""
        most = min(most, len(self._workers))
        for start in range(0, len(keys), BLOCK):
            scores = self._scores(keys[start : start + BLOCK, None], self._workers[None, :], self._weights)
            top = np.argpartition(-scores, most - 1, axis=1)[:, :most] if most < scores.shape[1] else None
            for row, theirs in enumerate(scores):
                allowed = eligible[start + row]
                enough = top is not None and bool(allowed[top[row]].all())
                found = top[row] if top is not None and enough else np.flatnonzero(allowed)
                order = np.lexsort((found, -theirs[found]))[:most]
                yield found[order].tolist()

    def fondest(self, worker: int, keys: NDArray[np.uint64], most: int) -> list[int]:
        """Up to `most` keys, as indices, that prefer one worker most, in that order."""
        scores = self._scores(keys, self._workers[worker], self._weights[worker])
        found = np.argpartition(-scores, most)[:most] if most < len(keys) else np.arange(len(keys))
        order: list[int] = found[np.lexsort((found, -scores[found]))].tolist()
        return order

    def _scores(
        self,
        keys: NDArray[np.uint64],
        workers: NDArray[np.uint64] | np.uint64,
        weights: NDArray[np.float64] | np.float64,
    ) -> NDArray[np.float64]:
        uniform = ((mix(keys ^ workers) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
        # the order is the same, and a logarithm costs more than all the rest
        return uniform if self._equal else weights / -np.log(uniform)


def hashes(names: Sequence[str]) -> NDArray[np.uint64]:
    """64 bits of each name."""
    return np.frombuffer(b"".join(blake2b(name.encode(), digest_size=8).digest() for name in names), dtype="<u8")


def mix(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread each bit of a number over all bits."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
