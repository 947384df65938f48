"""How does a model run that only sentence-transformers itself knows how to run? The last resort: it is asked."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from msgspec import structs
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SparseEncoder
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.modules import Normalize, Router
from torch import Tensor, nn

from embedmq_worker.engine.finish import finish
from embedmq_worker.engine.prompts import Prompts
from embedmq_worker.engine.reference import say
from embedmq_worker.engine.rows import Raw
from embedmq_worker.engine.seam import Ask, Done, Fault, ModelFacts, Prepared, Running, Slice
from embedmq_worker.engine.tokens import Texts
from embedmq_worker.engine.transformer import Underway, computing, free_cache
from embedmq_worker.engine.void import void
from embedmq_worker.errors import DeviceLost

ROUTES = ("query", "document")
"""Names of prompts that are names of a router's routes, too."""

REFUSED = Fault("unsupported", "this model takes texts, not token ids: sentence-transformers tokenizes for it")


class Asked(Prepared, frozen=True, gc=False):
    """Items as they came: sentence-transformers cuts them into tokens again."""

    items: tuple[str, ...] = ()
    """Without the prompt; "" for what is refused."""
    query: str = ""
    prompt: str = ""
    task: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One text, and how it is to be encoded."""

    text: str
    query: str
    tokens: int
    way: tuple[str, str | None]
    """Its prompt and its route: what is encoded together has the same."""


class PlainEngine:
    """A model that sentence-transformers encodes, predicts, pads and sorts."""

    def __init__(self, model: BaseModel, texts: Texts, facts: ModelFacts) -> None:
        self._model: BaseModel | None
        self._model, self._normalizes = without_normalize(model)
        self._routes = any(isinstance(module, Router) for module in model.modules())
        self._device = model.device
        named = {name: text or "" for name, text in model.prompts.items()}
        self._texts, self._prompts = texts, Prompts(named, model.default_prompt_name)
        self.facts = facts

    def prepare(self, asks: Sequence[Ask]) -> list[Prepared]:
        """Count and cut the tokens, and keep the texts; items that are token ids are refused."""
        return [self._asked(ask, prepared) for ask, prepared in zip(asks, self._texts.prepare(asks), strict=True)]

    def launch(self, batch: Sequence[Slice]) -> Running:
        """Encode what has the same prompt together; when this returns it is done, on a GPU too."""
        return computing(lambda: self._launch(batch))

    def free_cache(self) -> None:
        """Give back what torch keeps for later."""
        computing(lambda: free_cache(self._device))

    def close(self) -> None:
        """Let the weights go."""
        self._model = None
        gc.collect()
        with suppress(DeviceLost):  # there is nothing to be had back
            self.free_cache()

    def _asked(self, ask: Ask, prepared: Prepared) -> Asked:
        refused = {i: REFUSED for i, item in enumerate(ask.items) if not isinstance(item, str)}
        fields = structs.asdict(prepared) | {
            "ids": None,
            "tokens": [0 if i in refused else count for i, count in enumerate(prepared.tokens)],
            "truncated": [i for i in prepared.truncated if i not in refused],
            "faults": prepared.faults | refused,
        }
        items = tuple(item if isinstance(item, str) else "" for item in ask.items)
        name = ask.options.prompt_name
        task = name if self._routes and name in ROUTES else None
        prompt = self._prompts.text(ask.options)
        return Asked(**fields, items=items, query=ask.query or "", prompt=prompt, task=task)

    @torch.inference_mode()
    def _launch(self, batch: Sequence[Slice]) -> Running:
        items = [item for part in batch for item in good_items(part)]
        if not items:
            return Done([void(self.facts, part.options, part.stop - part.start) for part in batch])
        raw = self._raw(self._say(items), [item.tokens for item in items])
        return Underway(finish(raw, batch, self._normalizes).to_host())

    def _say(self, items: Sequence[Item]) -> list[Tensor]:
        """What sentence-transformers says of each, in order."""
        if self._model is None:
            raise RuntimeError("the engine is closed")
        said: dict[int, Tensor] = {}
        for way in dict.fromkeys(item.way for item in items):
            numbers = [number for number, item in enumerate(items) if item.way == way]
            texts, queries = [items[i].text for i in numbers], [items[i].query for i in numbers]
            said.update(zip(numbers, say(self._model, texts, queries, *way), strict=True))
        return [said[number] for number in range(len(items))]

    def _raw(self, said: Sequence[Tensor], tokens: Sequence[int]) -> Raw:
        if isinstance(self._model, MultiVectorEncoder):
            rows, kept = zip(*map(_whole, said, tokens), strict=True)
            return Raw(tokens=torch.cat(rows), kept=torch.cat(kept))
        vectors = torch.stack([one.float() for one in said])
        if isinstance(self._model, CrossEncoder):
            return Raw(scores=vectors)
        return Raw(sparse=vectors) if isinstance(self._model, SparseEncoder) else Raw(dense=vectors)


def without_normalize(model: BaseModel) -> tuple[BaseModel, frozenset[str]]:
    """A model without the `Normalize` that it ends with, which `finish` does after slicing; and of which output."""
    modules: list[nn.Module] = list(model.children())
    if isinstance(model, CrossEncoder | SparseEncoder) or not isinstance(modules[-1], Normalize):
        return model, frozenset()
    output = "multivector" if isinstance(model, MultiVectorEncoder) else "dense"
    bare: BaseModel = type(model)(modules=modules[:-1], device=str(model.device))
    return bare.eval(), frozenset((output,))


def good_items(part: Slice) -> list[Item]:
    """The items of a slice that have no fault.

    Raises:
        TypeError: its request was prepared by another engine.
    """
    asked = part.prepared
    if not isinstance(asked, Asked):
        raise TypeError("a batch holds what another engine has prepared")
    return [
        Item(asked.items[i], asked.query, asked.tokens[i], (asked.prompt, asked.task))
        for i in range(part.start, part.stop)
        if i not in asked.faults
    ]


def _whole(rows: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """A row for each token, those that count first, and which they are: so many does `finish` expect."""
    kept = torch.arange(tokens, device=rows.device) < len(rows)
    return nn.functional.pad(rows.float(), (0, 0, 0, max(0, tokens - len(rows))))[:tokens], kept
