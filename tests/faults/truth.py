"""Which vector does a text have, and what does a text tell the engine to do?"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

WIDTH: Final = 8

SEGFAULT: Final = "!segfault"
OOM_KILL: Final = "!oom-kill"
FAIL: Final = "!fail"
ASSERT: Final = "!assert"
OOM: Final = "!oom"
OOM_ALONE: Final = "!oom-alone"
NAN: Final = "!nan"
SLOW: Final = "!slow"


def key(id: str, item: int) -> str:
    """The name of one item of one request; the first word of its text."""
    return f"{id}#{item}"


def text(id: str, item: int, *words: str) -> str:
    """A text that no other item has, and perhaps what the engine should do when it meets it."""
    return " ".join((key(id, item), "is", "asked", *words))


def vector(text: str) -> NDArray[np.float32]:
    """The one vector of a text, `(WIDTH,)`: a mix-up between neighbours cannot go unseen."""
    digest = hashlib.blake2b(text.encode(), digest_size=4 * WIDTH).digest()
    return (np.frombuffer(digest, "<u4") / 2**31 - 1).astype(np.float32)
