"""Which settings does the environment give? `EMBEDMQ_<SECTION>__<KEY>`, and four short names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PREFIX: Final = "EMBEDMQ_"
SHORT: Final[Mapping[str, tuple[str, str]]] = {
    "EMBEDMQ_KAFKA": ("kafka", "bootstrap"),
    "EMBEDMQ_REDIS": ("redis", "url"),
    "EMBEDMQ_PREFIX": ("", "prefix"),
}


def overrides(environ: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    """Every setting that the environment names, by its path in the file, in lower case.

    `EMBEDMQ_WORKER__MAX_BATCH_MS=20` is `("worker", "max_batch_ms")`; a dash in a model's name is written `_`
    (`EMBEDMQ_MODELS__BGE_SMALL__PINNED`). `EMBEDMQ_KAFKA`, `EMBEDMQ_REDIS` and `EMBEDMQ_PREFIX` are the short names of
    `kafka.bootstrap`, `redis.url` and `prefix`. Values are text; who knows the setting converts them.
    """
    found: dict[tuple[str, ...], str] = {}
    for name, value in environ.items():
        if name in SHORT:
            found[tuple(part for part in SHORT[name] if part)] = value
        elif name.startswith(PREFIX) and "__" in name:
            found[tuple(name[len(PREFIX) :].lower().split("__"))] = value
    return found
