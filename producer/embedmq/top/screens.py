"""What is laid over the view: a question at its foot, and what the keys do?"""

from __future__ import annotations

from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import ModalScreen
from textual.widgets import Static

KEYS: Final = """\
 up, down   select a model              l   load: serve it
 tab        models or workers           u   unload: serve it no more
 s          sort by the next column     p   pin it, or unpin it
 r          turn the order round        /   show those whose names contain …
 a head     click: sort by it           q   quit

 REQ, TOK   requests without an outcome, and their tokens, about
 AGE        of the oldest of them
 FILL       tokens of batches by what they might have held, in the last minute
 STATE      on how many workers: resident, loading, absent, failing, off;
            paused: it failed too often; thrashing: too little memory for it
 PARTS      partitions that a worker reads: interactive/bulk/retry
 REF        models whose last order it refused

 Any key closes this."""


class Question(ModalScreen[bool]):
    """One line at the foot; it ends with whether the answer was yes."""

    DEFAULT_CSS = """
    Question { align: left bottom; background: transparent; }
    Question Static { width: 100%; height: auto; background: $warning; color: $text; padding: 0 1; text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [("y", "answer(True)", "Yes"), ("n,escape,q", "answer(False)", "No")]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """Its only line."""
        yield Static(self._text, markup=False)

    async def action_answer(self, yes: bool) -> None:
        """A key was an answer."""
        _ = self.dismiss(yes)  # a screen cannot await its own end


class Help(ModalScreen[None]):
    """What the keys do, and what the columns mean."""

    DEFAULT_CSS = """
    Help { align: center middle; }
    Help Static { width: 80; max-width: 100%; height: auto; max-height: 100%; background: $surface; padding: 1 1; }
    """

    def compose(self) -> ComposeResult:
        """One page."""
        yield Static(KEYS, markup=False)

    def on_key(self) -> None:
        """Any key closes it."""
        _ = self.dismiss()
