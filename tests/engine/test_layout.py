"""Token rows are laid end to end, and every token knows its place."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from embedmq_worker.engine.layout import pack
from hypothesis import given
from hypothesis import strategies as st

ROWS = st.lists(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=12), min_size=1, max_size=12)
CPU = torch.device("cpu")


@given(ROWS)
def test_a_layout_gives_every_row_back(rows: list[list[int]]) -> None:
    """Split by its lengths, or cut at its starts, it is the rows as they came."""
    layout = pack([np.array(row, np.int32) for row in rows], CPU)
    starts = layout.starts.tolist()
    assert [part.tolist() for part in torch.split(layout.ids, list(layout.lengths))] == rows
    assert [layout.ids[a:b].tolist() for a, b in pairwise(starts)] == rows


@given(ROWS)
def test_every_token_knows_its_row_and_its_place_in_it(rows: list[list[int]]) -> None:
    """Places count from 0 in each row: no row sees how much came before it."""
    layout = pack([np.array(row, np.int32) for row in rows], CPU)
    assert layout.rows.tolist() == [i for i, row in enumerate(rows) for _ in row]
    assert layout.positions.tolist() == [place for row in rows for place in range(len(row))]


@given(ROWS, st.data())
def test_types_begin_at_the_document_of_each_row(rows: list[list[int]], data: st.DataObject) -> None:
    """0 for a query's tokens, 1 for what follows, in every row on its own."""
    firsts = [data.draw(st.integers(0, len(row) + 1)) for row in rows]
    layout = pack([np.array(row, np.int32) for row in rows], CPU, firsts=firsts)
    assert layout.types is not None
    wanted = [int(place >= first) for row, first in zip(rows, firsts, strict=True) for place in range(len(row))]
    assert layout.types.tolist() == wanted


@given(ROWS)
def test_what_was_not_said_is_not_there(rows: list[list[int]]) -> None:
    """A model that knows no types is shown none; skips travel as they are, one a row."""
    ids = [np.array(row, np.int32) for row in rows]
    plain, skipping = pack(ids, CPU), pack(ids, CPU, skips=[1] * len(rows))
    assert plain.types is None
    assert plain.skips is None
    assert skipping.skips is not None
    assert skipping.skips.tolist() == [1] * len(rows)
    everything = (plain.ids, plain.positions, plain.rows, plain.starts, skipping.skips)
    assert {tensor.dtype for tensor in everything} == {torch.int32}
