"""How is one item's answer written?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from embedmq.cli.output import json_line, short

if TYPE_CHECKING:
    from embedmq.embeddings import Embedding
    from embedmq.scores import Scores


def write_embedding(index: int, item: Embedding, *, json: bool) -> bool:
    """Write one item's vectors, or on standard error why there are none; whether there are."""
    if item.failure is not None:
        write_failure(index, item.failure.code, item.failure.message, json=json)
        return False
    if json:
        line: dict[str, object] = {"index": index}
        if item.item_id is not None:
            line["item_id"] = item.item_id
        if item.dense is not None:
            line["dense"] = item.dense.tolist()
        if item.sparse is not None:
            line["sparse"] = {"indices": item.sparse.indices.tolist(), "values": item.sparse.values.tolist()}
        if item.multivector is not None:
            line["multivector"] = item.multivector.tolist()
        json_line(line | {"tokens": item.tokens})
        return True
    parts = [str(index)]
    if item.dense is not None:
        parts.append(f"{short(item.dense.tolist())}  {len(item.dense)} dimensions")
    if item.sparse is not None:
        parts.append(f"{len(item.sparse.indices)} weights")
    if item.multivector is not None:
        parts.append("{} × {} vectors".format(*item.multivector.shape))
    click.echo("  ".join([*parts, f"{item.tokens} tokens" + (", cut" if item.truncated else "")]))
    return True


def write_failure(index: int, code: str, message: str, *, json: bool) -> None:
    """Write why one item failed."""
    if json:
        json_line({"index": index, "error": {"code": code, "message": message}})
    what = message if code in message else f"{code}: {message}"
    click.echo(f"embedmq: error: item {index}: {what}", err=True)


def write_scores(scores: Scores, documents: list[str] | None, *, json: bool) -> bool:
    """Write scores: for programs in the order of the documents, for people best first; whether all are there."""
    ranks = {index: rank for rank, index in enumerate(scores.ranking)}
    if json:
        for index, score in enumerate(scores.scores.tolist()):
            if index in scores.failures:
                continue
            tokens = scores.tokens[index] if index < len(scores.tokens) else 0
            json_line({"index": index, "score": score, "rank": ranks.get(index), "tokens": tokens})
    else:
        for index in scores.ranking:
            text = "" if documents is None else f"  {documents[index]}"
            click.echo(f"{scores.scores[index]:.4f}  {index}{text}")
    for index, failure in sorted(scores.failures.items()):
        write_failure(index, failure.code, failure.message, json=json)
    return not scores.failures
