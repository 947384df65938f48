"""Do torch, driver, devices and memory fit: what `embedmq doctor` makes of facts about machines that are not here."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedmq_worker.doctor_fit import device, fit, memory, runs_on
from embedmq_worker.engine import fitting
from embedmq_worker.engine.fitting import Facts, Gpu
from msgspec import structs

H100 = Gpu("H100", (9, 0), 70 << 30, 80 << 30)
GOOD = Facts(
    torch="2.11",
    cuda=(12, 8),
    archs=("sm_80", "sm_90", "compute_90"),
    driver="570.1",
    driver_cuda=(12, 8),
    gpus=(H100,),
)
"""A GPU host on which all is well."""


@pytest.mark.parametrize(
    ("changes", "wanted", "found", "remedy"),
    [
        ({}, "auto", "", ""),
        ({"driver": "", "driver_cuda": None, "gpus": ()}, "auto", "", ""),
        ({"driver": "", "driver_cuda": None, "gpus": ()}, "cpu", "", ""),
        ({"driver": "", "driver_cuda": None, "gpus": ()}, "cuda", "no NVIDIA driver", "install NVIDIA's driver"),
        ({"cuda": None, "gpus": ()}, "auto", "without CUDA, but this machine has NVIDIA's", "with CUDA"),
        ({"driver_cuda": (11, 4), "gpus": ()}, "auto", "driver 570.1 knows CUDA up to 11.4", "a newer driver"),
        ({"driver_cuda": (12, 2)}, "auto", "", ""),
        ({"driver_cuda": None, "gpus": ()}, "auto", "libcuda is not found", "--gpus all"),
        ({"gpus": (), "said": "No CUDA GPUs are available"}, "auto", "No CUDA GPUs", "CUDA_VISIBLE_DEVICES"),
        ({"gpus": (Gpu("V100", (7, 0), 1, 1),)}, "auto", "none of them for V100 (sm_70)", "for sm_70"),
        ({"hip": True, "cuda": None, "driver": ""}, "cuda", "", ""),
        ({"apple": True, "driver": "", "driver_cuda": None}, "mps", "built without MPS", "arm64"),
        ({"apple": True, "mps": (True, True), "driver": "", "driver_cuda": None}, "mps", "", ""),
    ],
)  # fmt: skip
def test_torch_driver_and_gpu_fit_each_other(changes: dict[str, object], wanted: str, found: str, remedy: str) -> None:
    """Each way in which they do not has its own words."""
    check = fit(structs.replace(GOOD, **changes), wanted)
    assert check.ok is not bool(found), check
    assert found in check.found
    assert remedy in check.remedy


def test_without_torch_the_extra_is_named() -> None:
    """As on a producer's machine."""
    assert "embedmq[worker]" in fit(None, "auto").remedy


@pytest.mark.parametrize(
    ("archs", "capability", "runs"),
    [
        (["sm_80"], (8, 0), True),
        (["sm_80"], (8, 6), True),
        (["sm_86"], (8, 0), False),
        (["sm_80"], (9, 0), False),
        (["compute_80"], (9, 0), True),
        (["compute_90"], (8, 0), False),
        (["sm_90a"], (9, 0), True),
        (["sm_100a", "compute_100a"], (10, 3), False),
        (["sm_100f"], (10, 3), True),
        (["sm_120"], (12, 0), True),
        ([], (9, 0), False),
    ],
)
def test_kernels_run_on_the_same_or_a_later_device_of_their_kind(
    archs: list[str], capability: tuple[int, int], runs: bool
) -> None:
    """By NVIDIA's rules of compatibility."""
    assert runs_on(archs, capability) is runs


def test_the_facts_of_this_machine_can_be_gathered(tmp_path: Path) -> None:
    """Whatever it is; and the driver says its version as NVIDIA's modules do."""
    facts = fitting.gather()
    assert facts is not None
    assert facts.torch
    assert len(facts.gpus) == 0 or facts.archs
    file = tmp_path / "version"
    file.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.124.06  Wed Feb 26 02:25:24 UTC 2025\n")
    assert fitting.read_driver(file) == "570.124.06"
    assert fitting.read_driver(tmp_path / "absent") == ""


def test_memory_that_others_hold_is_told_apart_from_too_little() -> None:
    """The remedy differs: end them, or configure less."""
    gib = 1 << 30
    gpu = Gpu("H100", (9, 0), 10 * gib, 80 * gib)
    assert "nvidia-smi" in memory({"a": 20 * gib}, {"a"}, 8 * gib, gpu).remedy
    assert "10,240 of the device's 81,920 MiB are free" in memory({"a": gib}, {"a"}, 8 * gib, gpu).found
    assert "bfloat16" in memory({"a": 90 * gib}, {"a"}, 8 * gib, gpu).remedy


@pytest.mark.parametrize(
    ("wanted", "ok"),
    [("auto", True), ("cpu", True), ("cuda", True), ("cuda:1", True), ("cuda:2", False), ("mps", False), ("tpu", False),
     ("cuda:x", False), ("auto:1", False)],
)  # fmt: skip
def test_the_device_must_be_there(wanted: str, ok: bool) -> None:
    """Two GPUs and no Apple device here."""
    assert device(wanted, {"cuda": 2, "cpu": 1, "mps": 0}).ok is ok


def test_auto_takes_what_a_worker_would_take() -> None:
    """The CPU only where there is no GPU."""
    assert device("auto", {"cuda": 1, "cpu": 1, "mps": 0}).found == "auto takes cuda"
    assert device("auto", {"cuda": 0, "cpu": 1, "mps": 1}).found == "auto takes cpu"


def test_a_gpu_that_is_missed_says_what_there_is() -> None:
    """The remedy for the commonest fault of a GPU host."""
    check = device("cuda", {"cuda": 0, "cpu": 1, "mps": 0})
    assert check.found == "worker.device = 'cuda' is not here; torch sees 1 cpu"
    assert "torch" in check.remedy


@pytest.mark.parametrize(
    ("pinned", "budget", "ok", "says"),
    [
        ({"a", "b"}, 30, True, "2 pinned"),
        ({"a", "b"}, 29, False, "too little is left for c"),
        ({"a", "b", "c"}, 29, False, "which is too little"),
        (set[str](), 10, True, "0 pinned"),
        (set[str](), 9, False, "too little is left for a, b, c"),
    ],
)
def test_pinned_models_fit_together_and_every_other_beside_them(
    pinned: set[str], budget: int, ok: bool, says: str
) -> None:
    """Others take turns in what is left."""
    found = memory(dict.fromkeys("abc", 10 * 2**20), pinned, budget * 2**20)
    assert found.ok is ok
    assert says in found.found
