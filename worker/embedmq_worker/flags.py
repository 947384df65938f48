"""What do the options of the command line say that the environment might have said?"""

from __future__ import annotations

from collections.abc import Mapping

from embedmq_schemas.invocation import Invocation


def environment(told: Invocation, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with `--kafka`, `--redis` and `--prefix` laid over it, for the configuration to read."""
    flags = {"EMBEDMQ_KAFKA": told.kafka, "EMBEDMQ_REDIS": told.redis, "EMBEDMQ_PREFIX": told.prefix}
    return {**environ, **{name: value for name, value in flags.items() if value is not None}}
