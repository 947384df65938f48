"""Does one decoder keep its promise, for inputs that libFuzzer breeds by what they cover?

`python -m tests.fuzz.guided TARGET [libFuzzer's options and folders]`; a file in place of the options reads that one
input again. With `-runs` it says in the end how many inputs were taken and how many refused.
"""

from __future__ import annotations

import sys
import zlib
from importlib import import_module
from typing import Any

INSTRUMENTED = ["embedmq_schemas", "embedmq", "embedmq_worker"]
MEMORY_CHECKED_IN = 64
"""One input in so many is read once more with its allocations counted, which is slow."""


def main() -> None:
    atheris: Any = import_module("atheris")  # `make fuzz` installs it; types are checked without
    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.mutate import mutate as by_field
        from tests.fuzz.targets import TARGETS, check_memory

    (target,) = (target for target in TARGETS if target.name == sys.argv[1])
    runs = next((int(option[6:]) for option in sys.argv if option.startswith("-runs=")), 0)
    counts = [0, 0]

    def read(data: bytes) -> None:
        counts[target.read(data)] += 1
        if zlib.crc32(data) % MEMORY_CHECKED_IN == 0:
            check_memory(target, data)
        if sum(counts) == runs:  # libFuzzer ends the process and lets nobody else say anything
            print(f"\ntaken {counts[True]} refused {counts[False]}", flush=True)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        if seed % 2:
            changed = by_field(data, seed)
            if changed != data and len(changed) <= max_size:
                return changed
        return bytes(atheris.Mutate(data, max_size))

    atheris.Setup([sys.argv[0], *sys.argv[2:]], read, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
