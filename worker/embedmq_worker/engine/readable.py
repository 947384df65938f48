"""Would this checkpoint load, as far as that shows without its weights being read?

Their headers are `weights`' business, and what must not be loaded is `safety`'s. Here: is each part of the checkpoint
there, and can it be read by the libraries that are installed? What only computing shows, `embedmq doctor --load` finds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, cast

from embedmq_worker.engine import modules
from embedmq_worker.engine.modules import Module
from embedmq_worker.errors import CheckpointBroken, CheckpointMissing

TOKENIZER: Final = "tokenizer.json"
VOCABULARIES: Final = (TOKENIZER, "vocab.txt", "vocab.json", "*.model", "*.tiktoken")
"""From each of which transformers can make a tokenizer."""
CONFIGURED: Final = (".Pooling", ".Dense")
"""Modules that are nothing without their own configuration."""
WEIGHTY: Final = (".Dense", ".StaticEmbedding")
"""Modules other than transformers that are nothing without weights."""


def check(folder: Path, text: str) -> None:
    """Look at every module of a checkpoint; `text` was configured.

    Raises:
        CheckpointMissing: a part that is not there.
        CheckpointBroken: a part that cannot be read, or an architecture that the installed transformers does not know.
    """
    for module in modules.read(folder):
        if module.transformer or module.type.endswith(WEIGHTY):
            _need(module, text, "*.safetensors", "weights")
        if module.transformer or module.type.endswith(CONFIGURED):
            _need(module, text, "config.json", "its configuration")
        if module.transformer:
            _check_architecture(module, text)
        if module.transformer or module.type.endswith(".StaticEmbedding"):
            _check_tokenizer(module, text)


def _need(module: Module, text: str, pattern: str, what: str) -> None:
    if not any(module.folder.glob(pattern)):
        raise CheckpointMissing(f"{text}: {what} ({pattern}) is not in {module.folder}")


def _check_architecture(module: Module, text: str) -> None:
    """Code of its own, if it has any and may run, knows its own architecture."""
    config = modules.configuration(module.folder / "config.json")
    fields = cast("dict[str, object]", config) if isinstance(config, dict) else {}
    kind = fields.get("model_type")
    if not isinstance(kind, str) or fields.get("auto_map"):
        return
    # seconds to import
    import transformers

    if kind not in transformers.CONFIG_MAPPING:
        installed = transformers.__version__
        raise CheckpointBroken(f"{text}: transformers {installed} knows no {kind!r}: install one that does")


def _check_tokenizer(module: Module, text: str) -> None:
    file = module.folder / TOKENIZER
    if not file.is_file():
        if not any(any(module.folder.glob(pattern)) for pattern in VOCABULARIES):
            raise CheckpointMissing(f"{text}: no tokenizer ({TOKENIZER}) in {module.folder}")
        return
    from tokenizers import Tokenizer

    try:
        Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing more special
        raise CheckpointBroken(f"{text}: {file} is no tokenizer: {error}") from error
