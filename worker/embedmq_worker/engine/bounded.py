"""How is a text of any size tokenized at the cost of a page, and to the very ids that all of it would give?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from tokenizers import Encoding, Tokenizer

CHARACTERS_PER_TOKEN = 16
"""Texts are cut at this many characters per token first, so that a whole book costs no more than a page."""

SETTLED_TOKENS = 128
"""A cut text is trusted when this many tokens lie behind the last one kept: no tokenizer makes more of one word."""

Side = Literal["left", "right"]
"""Which end of a long text is cut off."""

Text = str | tuple[str, str]


class Row(NamedTuple):
    """One text, or one pair of them, in tokens."""

    encoding: Encoding
    cut: bool
    """Whether some of it did not fit."""


class Bounded:
    """A tokenizer that cuts. Thread-safe: its state is set once, here."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int, side: Side = "right") -> None:
        tokenizer.enable_truncation(max_tokens, direction=side)
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.side: Side = side
        self.max_tokens = max_tokens
        self.max_characters = max_tokens * CHARACTERS_PER_TOKEN
        self._near = slice(self.max_characters) if side == "right" else slice(-self.max_characters, None)

    def encode(self, texts: Sequence[tuple[str, str]], *, special: bool = True) -> list[Row | None]:
        """Tokenize prompts with their texts, `special` tokens added or not; None where there is no Unicode.

        Where so few tokens lie behind the last one kept that the cut by characters may have changed it (a word that
        was cut in two is another word), the text is done again, whole.
        """
        near, limit = self._near, self.max_characters
        encodings = self.encode_whole([(prompt + text[near])[near] for prompt, text in texts], special=special)
        for place, (prompt, text) in enumerate(texts):
            encoding = encodings[place]
            if len(prompt) + len(text) > limit and encoding is not None and tokens_behind(encoding) < SETTLED_TOKENS:
                (encodings[place],) = self.encode_whole([prompt + text], special=special)
        return [self.row(encoding) for encoding in encodings]

    def encode_whole(self, texts: Sequence[Text], *, special: bool = True) -> list[Encoding | None]:
        """Tokenize as they are, whatever that costs; None where there is no Unicode."""
        try:
            return list(self.tokenizer.encode_batch_fast(texts, add_special_tokens=special))
        except TypeError:  # half of a surrogate pair has no UTF-8; which text has one, it does not say
            sound = [_is_unicode(text) for text in texts]
            if all(sound):
                raise
            good = [text for text, unicode in zip(texts, sound, strict=True) if unicode]
            encodings = iter(self.encode_whole(good, special=special))
            return [next(encodings) if unicode else None for unicode in sound]

    def row(self, encoding: Encoding | None) -> Row | None:
        """Whether it was cut: a tokenizer leaves what does not fit behind."""
        if encoding is None:
            return None
        return Row(encoding, len(encoding) >= self.max_tokens and bool(encoding.overflowing))


def tokens_behind(encoding: Encoding) -> int:
    """How many tokens did not fit."""
    return sum(map(len, encoding.overflowing))


def _is_unicode(text: Text) -> bool:
    try:
        "".join(text).encode()
    except UnicodeEncodeError:
        return False
    return True
