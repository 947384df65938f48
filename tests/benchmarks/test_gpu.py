"""The benchmark for GPUs runs from end to end, before anybody pays for one."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import BENCHMARKS

ONLY_ON_A_GPU = {"engine.waiting_launches", "engine.memory_mib"}


@pytest.mark.timeout(300)
def test_a_smoke_run_measures_every_row_and_leaves_the_file_and_a_timeline(tmp_path: Path) -> None:
    """On a CPU, with models so small that it takes seconds; what needs a GPU says so, after its code has run."""
    command = [sys.executable, "-W", "error", "-m", "benchmarks.gpu", "--smoke", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    measured = json.loads((tmp_path / "gpu.json").read_bytes())
    names = {name for benchmark in BENCHMARKS for name in benchmark.names}
    assert {row["name"] for row in measured["rows"]} | ONLY_ON_A_GPU == names
    assert all(row["value"] > 0 and row["ratio"] > 0 for row in measured["rows"])
    with gzip.open(tmp_path / "timeline.json.gz") as file:
        assert json.load(file)["traceEvents"]
