"""What does a model make of its last layer? The modules behind its transformer, applied to a batch without padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from sentence_transformers import CrossEncoder, SparseEncoder
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Pooling
from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder, SpladePooling
from sentence_transformers.util import select_max_active_dims
from torch import Tensor, nn

from embedmq_worker.engine.describe import ENDS, SCORES, SENTENCE, TOKENS, width
from embedmq_worker.engine.late import TokenMask
from embedmq_worker.engine.pooling import pool
from embedmq_worker.engine.rows import Layout, Raw, Rows, Unpackable
from embedmq_worker.engine.sparse import splade

KEPT = "kept"
"""Where the modules here leave which tokens count."""

KNOWN = "sentence_transformers."
"""A class from elsewhere may compute anything."""

Features = dict[str, Tensor]
Step = Callable[[Features, Layout], None]


@dataclass(frozen=True, slots=True)
class Heads:
    """The chain of one model, from what its transformer gives to what a request may ask for."""

    outputs: frozenset[str]
    """`dense`, `sparse`, `multivector` or `scores`."""
    needs_logits: bool
    """Whether the chain begins with the logits of the transformer's own head, or with its last layer."""
    normalizes: frozenset[str]
    """Outputs whose vectors the model would normalise last, which is left to `finish`: slicing comes first."""
    dimensions: int
    token_dimensions: int
    begins: str
    steps: tuple[Step, ...]
    ends: Callable[[Features], Raw]

    @property
    def needs_hidden(self) -> bool:
        """Whether the chain begins with the transformer's last layer."""
        return not self.needs_logits

    @torch.inference_mode()
    def __call__(self, rows: Rows, outputs: frozenset[str]) -> Raw:
        """Apply the chain; a model has one output, so `outputs` that lacks it has nothing to compute."""
        given = rows.logits if self.needs_logits else rows.hidden
        if given is None or not outputs & self.outputs:
            return Raw()
        features = {self.begins: given}
        for step in self.steps:
            step(features, rows.layout)
        return self.ends(features)


def open_heads(model: BaseModel) -> Heads | Unpackable:
    """Read the chain behind a model's transformer; a reason where a part of it is unknown here."""
    transformer, *modules = model.children()
    if not isinstance(transformer, Transformer) or not type(transformer).__module__.startswith(KNOWN):
        return Unpackable(f"its first module is a {type(transformer).__name__}, no transformer known here")
    begins, text = transformer.module_output_name, transformer.modality_config.get("text", {})
    read = text.get("method_output_name")
    if begins not in (TOKENS, SCORES) or read not in ("last_hidden_state", "logits") or text.get("method") != "forward":
        return Unpackable(f"its transformer gives {read!r} of {text.get('method')!r} as {begins!r}")
    found = next(((output, key) for kind, output, key in ENDS if isinstance(model, kind)), None)
    if found is None:
        return Unpackable(f"a {type(model).__name__} is no kind of model known here")
    output, key = found
    if output == "scores" and (labels := model.num_labels) != 1:
        return Unpackable(f"it gives {labels} labels, where a score is one number")
    kept, normalizes = _without_last_normalize(modules, key) if output in ("dense", "multivector") else (modules, False)
    steps: list[Step] = []
    for step in _steps(kept, model):
        if isinstance(step, Unpackable):
            return step
        steps.append(step)
    return Heads(
        outputs=frozenset((output,)),
        needs_logits=read == "logits",
        normalizes=frozenset((output,) if normalizes else ()),
        dimensions=width(model) if output == "dense" else 0,
        token_dimensions=width(model) if output == "multivector" else 0,
        begins=begins,
        steps=tuple(steps),
        ends=_end(model, output, key),
    )


def _without_last_normalize(modules: Sequence[nn.Module], key: str) -> tuple[list[nn.Module], bool]:
    """Drop the last module if it only normalises what the chain ends with; masks behind it do not touch vectors."""
    for place in reversed(range(len(modules))):
        module = modules[place]
        if type(module) is Normalize and module.module_input_name == module.module_output_name == key:
            return [*modules[:place], *modules[place + 1 :]], True
        if type(module) not in (Dropout, MultiVectorMask):
            break
    return list(modules), False


def _steps(modules: Sequence[nn.Module], model: BaseModel) -> Iterator[Step | Unpackable]:
    for module in modules:
        kind = type(module)
        if isinstance(module, Pooling) and kind is Pooling:
            yield _pooling(module)
        elif isinstance(module, SpladePooling) and kind is SpladePooling:
            yield _splade(module)
        elif isinstance(module, MultiVectorMask) and kind is MultiVectorMask:
            vocabulary = max(len(model.tokenizer), int(getattr(model.config, "vocab_size", 0)))
            yield _mask(TokenMask(module, vocabulary, model.device))
        elif kind in (Dense, Normalize, LayerNorm, SparseAutoEncoder):
            active = {"max_active_dims": getattr(model, "max_active_dims", None)} if kind is SparseAutoEncoder else {}
            yield _own(module, active)
        elif kind is not Dropout:  # which does nothing but in training
            yield Unpackable(f"a module {kind.__name__} after the transformer")


def _pooling(module: Pooling) -> Step:
    modes = (module.pooling_mode,) if isinstance(module.pooling_mode, str) else tuple(module.pooling_mode)

    def step(features: Features, layout: Layout) -> None:
        features[SENTENCE] = pool(features[TOKENS], layout, modes)

    return step


def _splade(module: SpladePooling) -> Step:
    def step(features: Features, layout: Layout) -> None:
        features[SENTENCE] = splade(features[TOKENS], layout, module)

    return step


def _mask(mask: TokenMask) -> Step:
    def step(features: Features, layout: Layout) -> None:
        if (kept := mask(layout.ids)) is not None:
            features[KEPT] = kept

    return step


def _own(module: nn.Module, options: dict[str, int | None]) -> Step:
    """A module that treats every row alike, as the model has it: in the dtype of its own weights."""
    reads: str = getattr(module, "module_input_name", SENTENCE)
    writes: str = getattr(module, "module_output_name", reads)
    weights = next(module.parameters(), None)
    dtype = torch.float32 if weights is None else weights.dtype

    def step(features: Features, _: Layout) -> None:
        features[writes] = module({reads: features[reads].to(dtype)}, **options)[writes]

    return step


def ending(model: BaseModel) -> Callable[[Tensor], Raw]:
    """What sentence-transformers does behind the modules of a model that gives one row a text."""
    if isinstance(model, CrossEncoder):
        activate = model.activation_fn or nn.Identity()
        return lambda rows: Raw(scores=activate(rows.float()).squeeze(-1))
    if isinstance(model, SparseEncoder):
        most = model.max_active_dims
        return lambda rows: Raw(sparse=select_max_active_dims(rows.float(), most))
    return lambda rows: Raw(dense=rows.float())


def _end(model: BaseModel, output: str, key: str) -> Callable[[Features], Raw]:
    if output == "multivector":
        return lambda features: Raw(tokens=features[key].float(), kept=features.get(KEPT))
    end = ending(model)
    return lambda features: end(features[key])
