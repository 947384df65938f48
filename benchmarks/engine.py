"""How fast is the engine alone? In batches without padding, against sentence-transformers at its best.

Ours takes texts in the order given, in batches as a worker fills them, by the rate that was measured at load.
sentence-transformers sorts all texts of a call by length first; which batch size and which dtype suit it best is found
on half of the texts, for each model and each corpus anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from benchmarks import docstrings
from benchmarks.checkpoints import Recipe
from benchmarks.harness import Reporting, Scale
from benchmarks.plain import Setting
from benchmarks.report import Row
from benchmarks.rivals import Enter, apart
from benchmarks.work import one_by_one, reranked, singly

Measure = Callable[[Reporting, Scale, Enter], list[Row]]
MINILM_ROWS: Final = ("engine.mixed", "engine.short", "engine.online", "engine.online_vs_best")
USUAL_TOKENS = 256


def minilm(place: Reporting, scale: Scale, enter: Enter = apart) -> list[Row]:
    """Docstrings as they are and cut to a sentence; then 32 a call, as a service gets them.

    Of the rows of `online`, one is against a call as anybody would write it, one against the best batch size.
    """
    mixed, short = singly(docstrings.choose(scale.texts)), singly(docstrings.short(scale.texts))
    online = one_by_one(docstrings.choose(scale.online_calls * scale.online_texts), scale.online_texts)
    with enter(scale.minilm, place.say) as both:
        return [
            both.race("engine.mixed", mixed, both.best(mixed), scale.runs, goal=1.6),
            both.race("engine.short", short, both.best(short), scale.runs, goal=1.5),
            both.race("engine.online", online, Setting(), scale.runs, goal=5),
            both.race("engine.online_vs_best", online, both.best(online), scale.runs),
        ]


def long(place: Reporting, scale: Scale, enter: Enter = apart) -> list[Row]:
    """Texts of about 512 tokens: MiniLM's weights, with its limit lifted from 256."""
    calls = singly(docstrings.long(scale.long_texts))
    with enter(scale.minilm_long, place.say) as both:
        return [both.race("engine.long", calls, both.best(calls), scale.runs, goal=1.2)]


def bert_base(place: Reporting, scale: Scale, enter: Enter = apart) -> list[Row]:
    """BERT-base with random weights."""
    calls = singly(docstrings.choose(scale.wide_texts))
    with enter(Recipe("bert", scale.bert, USUAL_TOKENS), place.say) as both:
        return [both.race("engine.bert_base", calls, both.best(calls), scale.runs)]


def modernbert_base(place: Reporting, scale: Scale, enter: Enter = apart) -> list[Row]:
    """ModernBERT-base with random weights."""
    calls = singly(docstrings.choose(scale.wide_texts))
    with enter(Recipe("modernbert", scale.modernbert, USUAL_TOKENS), place.say) as both:
        return [both.race("engine.modernbert_base", calls, both.best(calls), scale.runs)]


def rerank(place: Reporting, scale: Scale, enter: Enter = apart) -> list[Row]:
    """A cross-encoder of MiniLM's size with random weights, on queries with as many documents each."""
    queries, documents = docstrings.short(scale.queries), docstrings.choose(scale.texts)
    calls = reranked(queries, documents, scale.documents)
    with enter(Recipe("ranker", scale.ranker), place.say, "scores") as both:
        return [both.race("engine.rerank", calls, both.best(calls), scale.runs, goal=1.6, unit="pairs/s")]
