"""What the libraries throw while a model loads has one name, in one line; random weights are no model."""

from __future__ import annotations

import errno
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from embedmq_worker.engine.failures import classify, loading
from embedmq_worker.engine.kinds import Kind
from embedmq_worker.engine.opening import open_model
from embedmq_worker.errors import (
    CheckpointBroken,
    CheckpointGated,
    CheckpointInvalid,
    CheckpointMissing,
    CheckpointUnreachable,
    CheckpointUnsafe,
    DeviceLost,
    OutOfMemory,
    WorkerError,
)
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.engine.checkpoints import make


def opened(folder: Path, kind: Kind = "SentenceTransformer") -> None:
    with loading("hf:org/tiny@abc"):
        open_model(str(folder), kind, "cpu", "float32", trust_remote_code=False)


def change(file: Path, **tensors: Tensor | None) -> None:
    """Put other tensors into a file, or take some out."""
    found = {**load_file(file), **tensors}
    save_file({name: value for name, value in found.items() if value is not None}, file, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("bert"), "bert", dense=8)


@pytest.fixture
def bert(original: Path, tmp_path: Path) -> Path:
    for file in original.rglob("*"):
        if file.is_file():
            (tmp_path / file.relative_to(original)).parent.mkdir(exist_ok=True)
            (tmp_path / file.relative_to(original)).write_bytes(file.read_bytes())
    return tmp_path


LAYER = "encoder.layer.0.output.dense.weight"


def test_a_checkpoint_that_lacks_one_tensor_is_refused(bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    """transformers would draw it at random and say so in the log; the vectors would differ with each start."""
    change(bert / "model.safetensors", **{LAYER: None})
    with pytest.raises(CheckpointBroken, match=rf"hf:org/tiny@abc: weights without: {LAYER}; .* random"):
        opened(bert)
    assert "LOAD REPORT" not in caplog.text


def test_a_tensor_of_another_shape_is_refused_with_both(bert: Path) -> None:
    """The library's own message says only to look at the log."""
    change(bert / "model.safetensors", **{LAYER: torch.zeros(3, 64)})
    with pytest.raises(CheckpointBroken, match=rf"{LAYER} \(.*3, 64.*64, 128"):
        opened(bert)


def test_random_weights_are_seen_where_the_log_is_quiet(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker may have silenced the libraries."""
    logger = logging.getLogger("transformers.modeling_utils")
    change(bert / "model.safetensors", **{LAYER: None})
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with pytest.raises(CheckpointBroken, match=LAYER):
            opened(bert)
    finally:
        logger.setLevel(level)


def test_a_model_that_loads_beside_a_broken_one_is_none_the_worse(bert: Path, original: Path) -> None:
    """Each thread reads its own report."""
    change(bert / "model.safetensors", **{LAYER: None})
    with ThreadPoolExecutor(2) as threads:
        broken, sound = [threads.submit(opened, folder) for folder in (bert, original)]
        assert isinstance(broken.exception(), CheckpointBroken)
        assert sound.exception() is None


def test_a_pooler_that_nobody_asks_may_be_missing(bert: Path) -> None:
    """Many encoders come without; their last hidden state is what is pooled."""
    change(bert / "model.safetensors", **{"pooler.dense.weight": None, "pooler.dense.bias": None})
    opened(bert)


def test_a_head_that_is_asked_may_not(bert: Path) -> None:
    """An encoder configured as a cross-encoder would score at random."""
    (bert / "modules.json").unlink()
    with pytest.raises(CheckpointBroken, match="classifier"):
        opened(bert, "CrossEncoder")


def test_a_module_of_its_own_that_lacks_a_tensor_is_refused(bert: Path) -> None:
    """A dense head after the pooling."""
    change(bert / "2_Dense/model.safetensors", **{"linear.bias": None})
    with pytest.raises(CheckpointBroken, match="hf:org/tiny@abc"):
        opened(bert)


@pytest.mark.parametrize("place", ["model.safetensors", "2_Dense/model.safetensors"])
def test_a_file_that_was_cut_off_is_refused(bert: Path, place: str) -> None:
    """As after a copy that failed."""
    content = (bert / place).read_bytes()
    (bert / place).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointBroken):
        opened(bert)


def test_an_architecture_that_nobody_knows_is_refused(bert: Path) -> None:
    """By this transformers, or by any."""
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps({**config, "model_type": "tomorrows-bert"}))
    with pytest.raises(CheckpointBroken, match="tomorrows-bert"):
        opened(bert)


def test_a_shard_that_is_missing_is_refused(bert: Path) -> None:
    """Should it go between the look at the headers and the loading."""
    (bert / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {LAYER: "model-00001-of-00002.safetensors"}}
    (bert / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointMissing):
        opened(bert)


def test_weights_that_are_missing_altogether_are_refused(bert: Path) -> None:
    """Of the transformer, or of a module."""
    (bert / "2_Dense/model.safetensors").unlink()
    with pytest.raises(CheckpointMissing, match=r"model\.safetensors"):
        opened(bert)
    (bert / "model.safetensors").unlink()
    with pytest.raises(CheckpointMissing, match=r"model\.safetensors"):
        opened(bert)


def os_error(number: int) -> OSError:
    return OSError(number, "says the system")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), OutOfMemory),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), OutOfMemory),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 4 bytes"), OutOfMemory),
        (RuntimeError("CUDA error: out of memory"), OutOfMemory),
        (torch.AcceleratorError("CUDA error: out of memory"), OutOfMemory),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), OutOfMemory),
        (RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be"), DeviceLost),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), DeviceLost),
        (torch.AcceleratorError("CUDA error: something that a later driver says"), DeviceLost),
        (os_error(errno.ENOMEM), OutOfMemory),
        (os_error(errno.ENOSPC), CheckpointUnreachable),
        (os_error(errno.EIO), CheckpointUnreachable),
        (os_error(errno.ENOENT), CheckpointMissing),
        (os_error(errno.EACCES), CheckpointInvalid),
        (SafetensorError("Error while deserializing header"), CheckpointBroken),
        (json.JSONDecodeError("Expecting value", "", 0), CheckpointBroken),
        (ValueError("Please pass the argument `trust_remote_code=True`"), CheckpointUnsafe),
        (RuntimeError("Error(s) in loading state_dict for Dense:\n size mismatch"), CheckpointBroken),
        (ImportError("This model needs `sentencepiece`\nInstall it"), CheckpointInvalid),
        (KeyError("hidden_size"), CheckpointInvalid),
        (Exception(), CheckpointInvalid),
        (Exception("x" * 10_000), CheckpointInvalid),
    ],
)
def test_every_error_has_one_name_and_one_line(error: Exception, kind: type[WorkerError]) -> None:
    """With what was configured."""
    found = classify(error, "./models/tiny")
    assert type(found) is kind
    assert str(found).startswith("./models/tiny: ")
    assert "\n" not in str(found)
    assert len(str(found)) < 400


def test_an_error_that_has_its_name_keeps_it() -> None:
    """Whoever raised it knew more."""
    error = CheckpointGated("gated")
    assert classify(error, "tiny") is error


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: device-side assert triggered",
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: an illegal instruction was encountered",
        "CUDA error: misaligned address",
        "CUDA error: unspecified launch failure",
        "CUDA error: the launch timed out and was terminated",
        "CUDA error: uncorrectable ECC error encountered",
        "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
        "CUDA error: no CUDA-capable device is detected",
        "CUDA error: operation not supported on global/shared address space",
        "CUDA driver error: unknown error",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`",
        "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
        "HIP error: an illegal memory access was encountered",
    ],
)
@pytest.mark.parametrize("kind", [RuntimeError, torch.AcceleratorError])
def test_a_broken_device_is_told_from_a_broken_item(said: str, kind: type[Exception]) -> None:
    """Whichever type this torch gives it: nothing more will be computed, so no item is at fault."""
    assert isinstance(
        classify(kind(f"{said}\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1"), "a batch"), DeviceLost
    )


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: invalid configuration argument"),
        torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device"),
        torch.AcceleratorError("CUDA error: invalid device ordinal"),
        torch.AcceleratorError("CUDA error: operation not supported"),
        RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
        RuntimeError("cannot encode 'CUDA error: device-side assert triggered'"),
        ValueError("CUDA error: device-side assert triggered"),
        AssertionError("CUDA error: device-side assert triggered"),
    ],
)
def test_what_one_call_or_one_text_has_to_do_with_is_no_broken_device(error: Exception) -> None:
    """The batch is taken apart, as for any other failure."""
    assert not isinstance(classify(error, "a batch"), DeviceLost)


def test_no_error_of_a_cpu_is_a_broken_device() -> None:
    """An index that an embedding table lacks is an assert on a GPU; here it is the item's own."""
    table, words = torch.nn.Embedding(4, 2), torch.tensor([9])
    for broken in (lambda: table(words), lambda: torch.zeros(2, 3) @ torch.zeros(2, 3), lambda: torch.zeros(-1)):
        with pytest.raises((IndexError, RuntimeError)) as found:
            broken()
        assert not isinstance(classify(found.value, "a batch"), DeviceLost)
