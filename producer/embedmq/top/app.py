"""How is the view shown, and what do keys do? Textual shows; what is shown is decided in `view`, `columns`, `lines`."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.widgets import DataTable, Footer, Input, Static

from embedmq.errors import EmbedMQError, Unavailable
from embedmq.top.columns import MODELS, WIDE, WORKERS, Column, Row, cells, heads, matching, order, widths
from embedmq.top.grid import Grid
from embedmq.top.lines import detail, sums, title
from embedmq.top.live import Live
from embedmq.top.orders import Wish, pin_or_not, question
from embedmq.top.screens import Help, Question
from embedmq.top.view import ModelRow, View, WorkerRow
from embedmq.top.words import clip

MOST_ROWS: Final = 500
"""As many of a table's rows are shown, by its order: more are found by `/`."""
INTERRUPTED: Final = 130


class Top(App[None]):
    """The whole terminal."""

    TITLE = "embedmq top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #title { height: 1; background: $primary; color: $text; text-style: bold; }
    #sums { height: 1; }
    #message { height: auto; min-height: 1; max-height: 3; }
    #models { height: 1fr; min-height: 4; }
    #detail { height: 3; background: $surface; }
    #workers { height: auto; max-height: 34%; min-height: 3; }
    Grid { scrollbar-size-vertical: 1; scrollbar-size-horizontal: 0; }
    #filter { height: 1; border: none; padding: 0; display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "sort", "Sort"),
        Binding("r", "reverse", "Reverse"),
        Binding("l", "wish('load')", "Load"),
        Binding("u", "wish('unload')", "Unload"),
        Binding("p", "pin", "Pin"),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q", "quit", "Quit"),
        Binding("escape", "unfilter", "All", show=False),
        Binding("ctrl+c", "interrupt", "Interrupt", show=False, priority=True),
    ]

    def __init__(self, live: Live, interval_s: float) -> None:
        """The fleet is read every `interval_s`."""
        super().__init__()
        self._live = live
        self._interval_s = interval_s
        self._view: View | None = None
        self._words = ""
        self._sorted: dict[str, tuple[str, bool]] = {"models": ("", False), "workers": ("", False)}

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield Static("EmbedMQ: asking Redis who is there …", id="title", markup=False)
        yield Static(id="sums", markup=False)
        yield Grid(id="models")
        yield Static(id="detail", markup=False)
        yield Grid(id="workers")
        yield Static(id="message", markup=False)
        yield Input(placeholder="part of a model's name; Enter keeps it, Escape shows all", id="filter")
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Begin to read; a SIGTERM leaves the terminal as it was."""
        self.query_one("#models", Grid).focus()
        self.run_worker(self._follow(), exit_on_error=True)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.action_interrupt)

    def on_resize(self, _: Resize) -> None:
        """Other columns fit."""
        self.call_after_refresh(self._show)

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        """Sort by the column that was clicked on, or turn its order round."""
        table, key = str(event.data_table.id), str(event.column_key.value)
        column, reverse = self._sorted[table]
        self._sort(table, key, reverse=not reverse if column == key else False)

    def on_data_table_row_highlighted(self) -> None:
        """Say all of the selected model."""
        self._say_detail()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show what matches so far."""
        self._words = event.value
        self._show()

    def on_input_submitted(self) -> None:
        """Go back to the table, with what matches."""
        self._end_filter()

    def action_sort(self) -> None:
        """Sort the table that has the focus by its next column."""
        table = "workers" if self.query_one("#workers", Grid).has_focus else "models"
        shown = list(self._widths(table))
        column, _ = self._sorted[table]
        self._sort(table, shown[(shown.index(column) + 1) % len(shown) if column in shown else 0], reverse=False)

    def action_reverse(self) -> None:
        """Turn the order round."""
        table = "workers" if self.query_one("#workers", Grid).has_focus else "models"
        column, reverse = self._sorted[table]
        self._sort(table, column or _columns(table)[0].key, reverse=not reverse)

    def action_filter(self) -> None:
        """Ask for a part of a name."""
        entry = self.query_one("#filter", Input)
        entry.display = True
        self.query_one("#message").display = False
        entry.focus()

    def action_unfilter(self) -> None:
        """Show all again."""
        self.query_one("#filter", Input).value = ""
        self._end_filter()

    def action_help(self) -> None:
        """Say what the keys do."""
        _ = self.push_screen(Help())

    def action_pin(self) -> None:
        """Pin the selected model, or unpin it."""
        if (row := self._selected()) is not None:
            self.action_wish(pin_or_not(row))

    def action_wish(self, wish: Wish) -> None:
        """Ask whether that is meant, for the selected model."""
        if (row := self._selected()) is not None:
            _ = self.push_screen(
                Question(question(wish, clip(row.model, 63))), partial(self._answered, wish, row.model)
            )

    def action_interrupt(self) -> None:
        """As any command that is interrupted."""
        self.exit(return_code=INTERRUPTED)

    def _answered(self, wish: Wish, model: str, yes: bool | None) -> None:
        if yes:
            self.run_worker(self._tell(wish, model), exit_on_error=True)

    async def _tell(self, wish: Wish, model: str) -> None:
        self._say(f"{wish} {model}: asking Kafka to keep the order …")
        try:
            offset = await self._live.tell(wish, model)
        except EmbedMQError as error:
            self._say(f"{wish} {model} failed: {error}", style="bold red")
        else:
            self._say(f"{wish} {model}: order {offset} is kept; REF counts who refuses it")

    async def _follow(self) -> None:
        """Read and show, for ever: a Redis that is away is asked again."""
        away = False
        while True:
            try:
                self._view = await self._live.read()
            except Unavailable as error:
                away = True
                self._say(f"{error}; asked again every {self._interval_s:g} s", style="bold red")
            else:
                if away:
                    self._say("")
                away = False
                self._show()
            await asyncio.sleep(self._interval_s)

    def _show(self) -> None:
        view = self._view
        if view is None or not self.is_running:
            return
        self.query_one("#title", Static).update(clip(title(view), self.size.width))
        self.query_one("#sums", Static).update(clip(sums(view.fleet), self.size.width))
        models = matching(view.models, self._words, lambda row: row.model)
        self._fill("models", models, MODELS, [row.model for row in models])
        self._fill("workers", view.workers, WORKERS, [row.id for row in view.workers])
        self._say_detail()

    def _fill(self, table: str, rows: Sequence[Row], columns: Sequence[Column[Row]], keys: Sequence[str]) -> None:
        grid, shown, (key, reverse) = self.query_one(f"#{table}", Grid), self._widths(table), self._sorted[table]
        names = {id(row): name for row, name in zip(rows, keys, strict=True)}
        by = next((column for column in columns if column.key == key), None)
        ordered = rows if by is None else order(rows, by, reverse=reverse)
        marked = zip(shown, heads(columns, shown), strict=True)
        grid.show(
            {name: ((head, "reverse" if name == key else ""), shown[name]) for name, head in marked},
            {
                names[id(row)]: [(cell, _style(row)) for cell in cells(row, columns, shown, grid.room >= WIDE)]
                for row in ordered[:MOST_ROWS]
            },
        )

    def _widths(self, table: str) -> dict[str, int]:
        room = self.query_one(f"#{table}", Grid).room
        return widths(MODELS, room) if table == "models" else widths(WORKERS, room)

    def _sort(self, table: str, key: str, *, reverse: bool) -> None:
        self._sorted[table] = key, reverse
        head = next(column.head for column in _columns(table) if column.key == key)
        self._say(f"{table} by {head}{', turned round' if reverse else ''}")
        self._show()

    def _selected(self) -> ModelRow | None:
        name = self.query_one("#models", Grid).selected
        rows = self._view.models if self._view is not None else []
        return next((row for row in rows if row.model == name), None)

    def _say_detail(self) -> None:
        row = self._selected()
        lines = detail(row) if row is not None else ("no model matches" if self._words else "no models",)
        self.query_one("#detail", Static).update("\n".join(clip(line, self.size.width) for line in lines))

    def _end_filter(self) -> None:
        self.query_one("#filter", Input).display = False
        self.query_one("#message").display = True
        self.query_one("#models", Grid).focus()
        self._say(f"models whose names contain {self._words!r}: Escape shows all" if self._words else "")

    def _say(self, text: str, style: str = "") -> None:
        self.query_one("#message", Static).update(Text(clip(text, 3 * self.size.width - 3), style))


def _columns(table: str) -> Sequence[Column[ModelRow]] | Sequence[Column[WorkerRow]]:
    return MODELS if table == "models" else WORKERS


def _style(row: ModelRow | WorkerRow) -> str:
    """What wants somebody's eye stands out."""
    if isinstance(row, WorkerRow):
        return "yellow" if row.refused else ""
    if row.paused or row.failed_per_s or "failing" in row.states:
        return "red"
    if "loading" in row.states or row.thrashing or row.refused:
        return "yellow"
    return "" if "resident" in row.states else "dim"
