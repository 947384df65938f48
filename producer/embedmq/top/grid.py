"""How does a table change under somebody who looks at it? The selected row stays selected, and nothing jumps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text
from textual.widgets import DataTable

Cell = tuple[str, str]
"""A text, and the style of it."""


class Grid(DataTable[Text]):
    """A table of rows that have keys."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id, cursor_type="row", cell_padding=0, zebra_stripes=False)
        self._heads: dict[str, tuple[Cell, int]] = {}
        self._names: list[str] = []
        self._texts: list[Sequence[Cell]] = []

    @property
    def room(self) -> int:
        """Columns for text: one is the scroll bar's."""
        return self.size.width - 1

    @property
    def selected(self) -> str | None:
        """The key of the row under the cursor."""
        return self._names[self.cursor_row] if 0 <= self.cursor_row < len(self._names) else None

    def show(self, columns: Mapping[str, tuple[Cell, int]], rows: Mapping[str, Sequence[Cell]]) -> None:
        """Show these rows under these heads, each with its width; only what differs is drawn."""
        keys, cells = list(rows), list(rows.values())
        if dict(columns) == self._heads and keys == self._names:
            for row, (before, after) in enumerate(zip(self._texts, cells, strict=True)):
                for column, (old, new) in enumerate(zip(before, after, strict=True)):
                    if old != new:
                        self.update_cell_at((row, column), Text(*new))  # type: ignore[arg-type]  # it takes any pair
        else:
            self._rebuild(columns, rows)
        self._heads, self._names, self._texts = dict(columns), keys, cells

    def _rebuild(self, columns: Mapping[str, tuple[Cell, int]], rows: Mapping[str, Sequence[Cell]]) -> None:
        selected, top = self.selected, self.scroll_y
        self.clear(columns=dict(columns) != self._heads)
        if not self.columns:
            for key, (head, width) in columns.items():
                self.add_column(Text(*head), width=width + 1, key=key)
        for key, cells in rows.items():
            self.add_row(*(Text(*cell) for cell in cells), key=key)
        if selected is not None and selected in rows:
            self.move_cursor(row=list(rows).index(selected), scroll=False)
        self.scroll_to(y=top, animate=False)
