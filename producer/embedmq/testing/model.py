"""What can a model of the fake fleet do, and which requests does it refuse?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from embedmq_schemas.catalogue import ModelEntry
from embedmq_schemas.limits import Limits
from embedmq_schemas.requests import Embed, Request, Score

MAX_PROMPT_CHARACTERS = 4_096
"""As of every worker."""


@dataclass(frozen=True, kw_only=True)
class FakeModel:
    """A model as workers would announce it; by default one that gives dense vectors."""

    dimensions: int = 384
    """Width of its vectors."""
    outputs: tuple[str, ...] = ("dense",)
    """Of `dense`, `sparse` and `multivector`; the first is what a request gets that asks for none."""
    scores: bool = False
    """Whether it is a cross-encoder, which scores and gives no vectors."""
    max_tokens: int = 256
    """Longest item, in tokens; here a token is a word."""
    prompts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Texts to put before each item, by `prompt_name`."""
    revision: str = "fake"
    limits: Limits = field(default_factory=Limits)

    def entry(self, name: str) -> ModelEntry:
        """What the catalogue says of it."""
        return ModelEntry(
            name=name,
            outputs=[] if self.scores else list(self.outputs),
            scores=self.scores,
            dimensions=0 if self.scores else self.dimensions,
            max_tokens=self.max_tokens,
            revision=self.revision,
            limits=self.limits,
        )

    def refusal(self, request: Request) -> str | None:
        """Why a worker would answer `unsupported`; None when it would not."""
        if request.revision is not None and request.revision != self.revision:
            return f"`revision` {request.revision!r} is not served here; {self.revision!r} is"
        if isinstance(request, Score):
            return None if self.scores else f"{request.model} embeds; to score, choose a cross-encoder"
        return f"{request.model} scores, and has no vectors to give" if self.scores else self._refusal(request)

    def _refusal(self, request: Embed) -> str | None:
        if not set(request.outputs or ()) <= set(self.outputs):
            return f"`outputs`: it offers {', '.join(self.outputs)}"
        if request.dimensions is not None and (wrong := self._wrong_width(request)):
            return f"`dimensions` = {request.dimensions}: {wrong}"
        if request.prompt_name is not None and request.prompt_name not in self.prompts:
            return f"`prompt_name`: unknown to this model, which has {', '.join(self.prompts) or 'none'}"
        if request.prompt is not None and len(request.prompt) > MAX_PROMPT_CHARACTERS:
            return f"`prompt` of {len(request.prompt)} characters: at most {MAX_PROMPT_CHARACTERS}"
        if request.prompt_name is not None and request.prompt is not None:
            return "`prompt_name` and `prompt` exclude each other"
        return None

    def _wrong_width(self, request: Embed) -> str | None:
        if set(request.outputs or self.outputs[:1]) == {"sparse"}:
            return "sparse vectors have no width to cut"
        return f"this model has 1 to {self.dimensions}" if (request.dimensions or 0) > self.dimensions else None
