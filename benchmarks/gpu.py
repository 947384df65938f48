"""How fast is the engine on a GPU? `python -m benchmarks.gpu [--out FOLDER] [--smoke]`, without Kafka and network.

Everything is in this process, as in a worker: texts are tokenized in threads, batches launched in one thread and
collected in another, two at a time on the device. `gpu.json` has the form of `bench.json`; `timeline.json.gz` beside it
shows some batches. `--smoke` runs all of it at a tiny scale, on a CPU too, to prove the code: its figures mean nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path

import torch

from benchmarks import engine, gpu_rows, harness, report
from benchmarks.arithmetic import Shape
from benchmarks.checkpoints import Recipe
from benchmarks.gpu_rows import Device, Gpu, GpuScale
from benchmarks.harness import Benchmark

LIMIT_S = 390.0
"""No row begins later, so that the whole run ends within 8 minutes."""

BENCHMARKS = (
    Benchmark(gpu_rows.TOKENS, gpu_rows.tokens),
    Benchmark(("engine.waiting_launches",), gpu_rows.launches),
    Benchmark(("engine.memory_mib",), gpu_rows.memory),
    Benchmark(engine.MINILM_ROWS, partial(gpu_rows.raced, engine.minilm)),
    Benchmark(("engine.bert_base",), partial(gpu_rows.raced, engine.bert_base)),
    Benchmark(("engine.modernbert_base",), partial(gpu_rows.raced, engine.modernbert_base)),
    Benchmark(("engine.long",), partial(gpu_rows.raced, engine.long)),
    Benchmark(("engine.rerank",), partial(gpu_rows.raced, engine.rerank)),
)
"""The rows that matter most come first: a slow machine may skip the last ones."""

TINY = Shape(64, 128, 2, 2)
SMOKE = GpuScale(
    runs=1,
    texts=8,
    long_texts=2,
    wide_texts=8,
    online_calls=1,
    online_texts=4,
    queries=2,
    documents=2,
    tokens=1_200,
    batches=1,
    batch_sizes=(4,),
    minilm=Recipe("bert", TINY, 256),
    minilm_long=Recipe("bert", TINY),
    bert=TINY,
    modernbert=TINY,
    ranker=TINY,
)


def main(arguments: list[str]) -> int:
    """The exit code: 0, 1 when a row failed, 2 when there is no GPU (or as argparse says)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Measure the engine on a GPU.")
    parser.add_argument("--out", type=Path, default=Path("build", "gpu"), help="folder for gpu.json and the timeline")
    parser.add_argument("--smoke", action="store_true", help="everything at a tiny scale, on a CPU too")
    options = parser.parse_args(arguments)
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # before transformers is imported: it looks only then
    device: Device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not options.smoke:
        print("torch sees no GPU; --smoke proves the code on a CPU", file=sys.stderr)
        return 2
    if device == "cpu":
        torch.set_num_threads(1)  # products so small gain nothing from threads that wait for each other
    options.out.mkdir(parents=True, exist_ok=True)
    gpu = Gpu(device, options.out, say)
    measured = harness.run(gpu, BENCHMARKS, SMOKE if options.smoke else GpuScale(), LIMIT_S)
    measured.machine["device"] = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    (options.out / "gpu.json").write_bytes(report.encode(measured))
    print(report.table(measured))
    return 1 if measured.errors else 0


def say(text: str) -> None:
    """Progress, beside the table."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
