"""How fast is the engine alone? In batches without padding, against sentence-transformers at its best.

Ours takes texts in the order given, in batches as a worker fills them, by the rate that was measured at load.
sentence-transformers sorts all texts of a call by length first; which batch size and which dtype suit it best is found
on half of the texts, for each model and each corpus anew.
"""

from __future__ import annotations

from benchmarks import docstrings
from benchmarks.arithmetic import BERT, MODERNBERT
from benchmarks.arithmetic import MINILM as MINILM_SHAPE
from benchmarks.checkpoints import MINILM, Recipe, written
from benchmarks.harness import Scale
from benchmarks.place import Place
from benchmarks.plain import Setting
from benchmarks.report import Row
from benchmarks.rivals import rivals
from benchmarks.work import one_by_one, reranked, singly

USUAL_TOKENS = 256
ONLINE_TEXTS = 32


def minilm(place: Place, scale: Scale) -> list[Row]:
    """Docstrings as they are and cut to a sentence; then 32 a call, as a service gets them.

    Of the rows of `online`, one is against a call as anybody would write it, one against the best batch size.
    """
    mixed, short = singly(docstrings.choose(scale.texts)), singly(docstrings.short(scale.texts))
    online = one_by_one(docstrings.choose(scale.online_calls * ONLINE_TEXTS), ONLINE_TEXTS)
    with rivals(MINILM, place.say) as both:
        return [
            both.race("engine.mixed", mixed, both.best(mixed), scale.runs, goal=1.6),
            both.race("engine.short", short, both.best(short), scale.runs, goal=1.5),
            both.race("engine.online", online, Setting(), scale.runs, goal=5),
            both.race("engine.online_vs_best", online, both.best(online), scale.runs),
        ]


def long(place: Place, scale: Scale) -> list[Row]:
    """Texts of about 512 tokens: MiniLM's weights, with its limit lifted from 256."""
    calls = singly(docstrings.long(scale.long_texts))
    with written(Recipe("minilm")) as folder, rivals(folder, place.say) as both:
        return [both.race("engine.long", calls, both.best(calls), scale.runs, goal=1.2)]


def bert_base(place: Place, scale: Scale) -> list[Row]:
    """BERT-base with random weights."""
    return _wide(place, scale, "engine.bert_base", Recipe("bert", BERT, USUAL_TOKENS))


def modernbert_base(place: Place, scale: Scale) -> list[Row]:
    """ModernBERT-base with random weights."""
    return _wide(place, scale, "engine.modernbert_base", Recipe("modernbert", MODERNBERT, USUAL_TOKENS))


def rerank(place: Place, scale: Scale) -> list[Row]:
    """A cross-encoder of MiniLM's size with random weights, on queries with as many documents each."""
    queries, documents = docstrings.short(scale.queries), docstrings.choose(scale.texts)
    calls = reranked(queries, documents, scale.documents)
    with written(Recipe("ranker", MINILM_SHAPE)) as folder, rivals(folder, place.say, "scores") as both:
        return [both.race("engine.rerank", calls, both.best(calls), scale.runs, goal=1.6, unit="pairs/s")]


def _wide(place: Place, scale: Scale, name: str, recipe: Recipe) -> list[Row]:
    calls = singly(docstrings.choose(scale.wide_texts))
    with written(recipe) as folder, rivals(folder, place.say) as both:
        return [both.race(name, calls, both.best(calls), scale.runs)]
