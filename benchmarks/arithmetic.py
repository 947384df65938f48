"""How much arithmetic does a batch need? Multiplications and additions of a transformer's layers. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct


class Shape(Struct, frozen=True):
    """The size of a BERT-like transformer."""

    hidden: int
    inner: int
    layers: int
    heads: int

    def matrices(self) -> list[tuple[int, int]]:
        """Inputs and outputs of each linear layer, layer after layer: four of attention, two behind it."""
        h, inner = self.hidden, self.inner
        return self.layers * [(h, h), (h, h), (h, h), (h, h), (h, inner), (inner, h)]

    def linear_flop(self, tokens: int) -> int:
        """Of the linear layers: two for each weight and token."""
        return 2 * tokens * sum(a * b for a, b in self.matrices())

    def attention_flop(self, lengths: Sequence[int]) -> int:
        """Of every token with every other one of its sequence, twice: the scores, and the values weighted by them."""
        return 4 * self.hidden * self.layers * sum(length * length for length in lengths)

    def flop(self, lengths: Sequence[int]) -> int:
        """Of one forward pass over sequences of these lengths, without padding."""
        return self.linear_flop(sum(lengths)) + self.attention_flop(lengths)


MINILM = Shape(384, 1536, 6, 12)
BERT = Shape(768, 3072, 12, 12)
MODERNBERT = Shape(768, 1152, 22, 12)
"""Its first linear layer behind attention is twice as wide, as it makes gates too: not for `flop`."""
