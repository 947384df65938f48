"""Is there any input that a decoder does not expect? `RUNS=… SEED=… python -m tests.fuzz` tries millions.

Two processes at a time (`tests.fuzz.guided`) breed inputs from samples by what they cover of our Python; what they
allocate is checked for one in 64. An input that breaks a promise is left in build/fuzz, the command that repeats it is
printed, and the exit code is 1.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from tests.fuzz.seeds import WORDS
from tests.fuzz.targets import TARGETS, Target

FOLDER: Final = Path("build/fuzz")
RUNS: Final = 5_000_000
MAX_INPUT_BYTES: Final = 4_096
MAX_INPUT_S: Final = 5
MAX_RSS_MB: Final = 512
PROCESSES: Final = 2


class Outcome(NamedTuple):
    """What a fuzzed decoder came to."""

    target: str
    runs: int
    taken: int
    edges: int
    corpus: int
    slowest_s: int
    peak_rss_mb: int
    seconds: float
    broken: str
    """Where the input lies that broke the promise; empty if there is none."""


def fuzz(target: Target, runs: int, seed: int) -> Outcome:
    """Give one decoder `runs` inputs, in a process of its own."""
    corpus = FOLDER / target.name
    shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir(parents=True)
    for n, sample in enumerate(target.seeds):
        (corpus / f"sample-{n}").write_bytes(sample)
    words = FOLDER / "words.txt"
    options = [
        *(f"-runs={runs}", f"-seed={seed}", f"-max_len={MAX_INPUT_BYTES}", f"-timeout={MAX_INPUT_S}"),
        *(
            f"-rss_limit_mb={MAX_RSS_MB}",
            f"-artifact_prefix={corpus}-",
            f"-dict={words}",
            "-keep_seed=1",
            "-mutate_depth=2",
        ),
        "-print_final_stats=1",
    ]
    begun = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.guided", target.name, *options, str(corpus)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    log = FOLDER / f"{target.name}.log"
    log.write_text(process.stdout, "utf-8")
    left = re.search(r"Test unit written to (\S+)", process.stdout)
    return Outcome(
        target.name,
        runs=_number(r"number_of_executed_units: (\d+)", process.stdout),
        taken=_number(r"^taken (\d+)", process.stdout),
        edges=_number(r"cov: (\d+)", process.stdout),
        corpus=_number(r"corp: (\d+)", process.stdout),
        slowest_s=_number(r"slowest_unit_time_sec:\s+(\d+)", process.stdout),
        peak_rss_mb=_number(r"peak_rss_mb:\s+(\d+)", process.stdout),
        seconds=time.monotonic() - begun,
        broken=left[1] if left else str(log) if process.returncode else "",
    )


def _number(pattern: str, printed: str) -> int:
    """The last number that was printed in this place."""
    found = re.findall(pattern, printed, re.MULTILINE)
    return int(found[-1]) if found else 0


def show(outcomes: Sequence[Outcome]) -> None:
    """One line a decoder, and their sum."""
    print(f"{'decoder':<10}{'inputs':>12}{'taken':>12}{'edges':>8}{'corpus':>8}{'peak MiB':>10}{'seconds':>9}")
    for one in outcomes:
        counts = f"{one.runs:>12,}{one.taken:>12,}{one.edges:>8}{one.corpus:>8}{one.peak_rss_mb:>10}{one.seconds:>9.0f}"
        print(f"{one.target:<10}{counts}")
    print(f"{'all':<10}{sum(one.runs for one in outcomes):>12,}{sum(one.taken for one in outcomes):>12,}")
    for one in outcomes:
        if one.broken:
            again = f"{sys.executable} -m tests.fuzz.guided {one.target} {one.broken}"
            print(f"{one.target}: broken by {one.broken}; once more: {again}")


def main() -> int:
    """Exit code 1 if any input broke a promise."""
    runs = int(os.environ.get("RUNS") or RUNS)
    seed = int(os.environ.get("SEED") or time.time_ns() % 2**31) or 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("*-*"):
        old.unlink()
    (FOLDER / "words.txt").write_text("".join(f'"{_escape(word)}"\n' for word in WORDS))
    each = -(-runs // len(TARGETS))
    print(f"RUNS={runs} SEED={seed}: {each:,} inputs for each of {len(TARGETS)} decoders", flush=True)
    with ThreadPoolExecutor(PROCESSES) as pool:
        outcomes = list(pool.map(lambda target: fuzz(target, each, seed), TARGETS))
    show(outcomes)
    summary = {"seed": seed, "decoders": [one._asdict() for one in outcomes]}
    Path("build/fuzz.json").write_text(json.dumps(summary, indent=2) + "\n", "utf-8")
    return int(any(one.broken for one in outcomes))


def _escape(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    sys.exit(main())
