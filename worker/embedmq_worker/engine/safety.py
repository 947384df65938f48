"""Could loading this checkpoint run code, or load what nobody configured?

What is looked for is what sentence-transformers 6 and transformers 5 do when they load a folder: modules named by
dotted paths, classes named by `auto_map`, weights unpickled where there are no safetensors, activations imported and
called, adapters and tokenizers that lie elsewhere. Some of it they refuse too, or skip with a warning and another
result; here it is refused before any of them is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from embedmq_worker.engine import modules
from embedmq_worker.engine.modules import Module
from embedmq_worker.errors import CheckpointUnsafe

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")

LIBRARY_CLASS = re.compile(r"sentence_transformers(\.[a-z_]+)*\.[A-Z]\w*")
"""A class of the library. Its modules have others' modules as attributes, `pickle` among them: none has a capital."""

ALIASES = frozenset({"pylate.models.Dense.Dense"})
"""Classes of another library for which sentence-transformers takes its own."""

LIBRARY_ACTIVATION = re.compile(r"torch\.nn\.(modules\.)?([a-z_]+\.)*[A-Z]\w*")
"""sentence-transformers calls whatever begins with `torch.`; a layer's class only makes a layer."""

ACTIVATIONS = ("activation_fn", "activation_function", "sbert_ce_default_activation_function")
KERNELS = ("allow_all_kernels", "use_kernels", "kernel_config")
ELSEWHERE = ("tokenizer_name_or_path", "gguf_file", "adapter_kwargs")


def check(folder: Path, text: str, *, trust_remote_code: bool) -> None:
    """Refuse a checkpoint that would have to be unpickled, or that reaches beyond itself; `text` was configured.

    Code of its own is allowed by `trust_remote_code`; pickles, adapters of other checkpoints and tokenizers from
    elsewhere never are, since no setting lists them.

    Raises:
        CheckpointUnsafe: with the file, what it asks for, and the remedy.
        CheckpointBroken: a configuration that cannot be read.
    """
    for module in modules.read(folder):
        _check_files(module, text)
        if not trust_remote_code and module.type and not _known(module.type):
            raise _own_code(text, f"modules.json names {module.type!r}")
        for path, config in modules.configurations(module):
            for key, value in _walk(config):
                _check_setting(text, path.name, key, value, trust_remote_code=trust_remote_code)
            if not trust_remote_code:
                _check_architecture(text, path, config)


def _check_files(module: Module, text: str) -> None:
    if (module.folder / "adapter_config.json").is_file():
        raise CheckpointUnsafe(
            f"{text}: an adapter, which would load another checkpoint that no model lists; merge them into one"
        )
    names = ("model.safetensors", *(("model.safetensors.index.json",) if module.transformer else ()))
    if module.folder.is_dir() and not any((module.folder / name).is_file() for name in names):
        pickles = sorted(path.name for path in module.folder.iterdir() if path.suffix in PICKLES)
        if pickles:
            raise CheckpointUnsafe(
                f"{text}: no {names[0]} beside {pickles[0]} in {module.folder}; "
                "pickled weights can run code and are not loaded: save it as safetensors"
            )


def _check_setting(text: str, file: str, key: str, value: object, *, trust_remote_code: bool) -> None:
    if key in ELSEWHERE and value:
        raise CheckpointUnsafe(f"{text}: {file} would load {key} = {value!r}, which no model lists")
    if trust_remote_code:
        return
    if key in KERNELS and value:
        raise _own_code(text, f"{file} asks for kernels from a hub ({key})")
    if not isinstance(value, str):
        return
    if key.endswith("attn_implementation") and "/" in value:
        raise _own_code(text, f"{file} asks for a kernel from a hub ({value!r})")
    if key in ACTIVATIONS and "." in value and not LIBRARY_ACTIVATION.fullmatch(value):
        raise _own_code(text, f"{file} names the activation {value!r}")
    if key == "tokenizer_class" and "." in value and not _known(value):
        raise _own_code(text, f"{file} names the tokenizer {value!r}")


def _check_architecture(text: str, path: Path, config: object) -> None:
    """Where transformers has the architecture itself, it takes its own class and leaves `auto_map` alone."""
    fields = cast("dict[str, object]", config) if isinstance(config, dict) else {}
    if path.name != "config.json" or not fields.get("auto_map"):
        return
    # seconds to import: only checkpoints that bring code wait for it
    from transformers import CONFIG_MAPPING

    if fields.get("model_type") not in CONFIG_MAPPING:
        raise _own_code(text, f"config.json names code for {fields.get('model_type')!r} (auto_map)")


def _known(dotted: str) -> bool:
    return dotted in ALIASES or LIBRARY_CLASS.fullmatch(dotted) is not None


def _own_code(text: str, why: str) -> CheckpointUnsafe:
    return CheckpointUnsafe(
        f"{text}: {why}: code of its own, which runs only with trust_remote_code = true in this model's configuration"
    )


def _walk(config: object) -> Iterator[tuple[str, object]]:
    """Every key with its value, at any depth, without recursion."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for key, inner in cast("dict[str, object]", value).items():
                yield key, inner
                waiting.append(inner)
        elif isinstance(value, list):
            waiting += cast("list[object]", value)
