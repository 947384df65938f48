"""Whose turn is it, when several tenants wait for one model on one lane? Deficit round robin over tokens. Pure.

Each tenant in turn may take `quantum` tokens; what its next item is short of is saved for its next turn, and what it
does not use because it has nothing waiting is lost. So while two tenants wait, what they were given differs by at most
one quantum and one item of each, whatever the sizes of their requests. M. Shreedhar and G. Varghese, "Efficient fair
queueing using deficit round robin", SIGCOMM 1995.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from embedmq_worker.filling import Cursor, Filling

QUANTUM_TOKENS: Final = 512
"""One text of the usual full length."""


class Turns:
    """The tenants of one model and lane, who is next first, with the tokens that each may still take."""

    def __init__(self, quantum_tokens: int = QUANTUM_TOKENS) -> None:
        self._quantum = quantum_tokens
        self._left: OrderedDict[str, int] = OrderedDict()

    def fill(self, filling: Filling, cursors: Mapping[str, Cursor]) -> None:
        """Fill what is left of a batch from those who wait, tenant by tenant.

        A turn that the end of the batch cuts short goes on in the next one.
        """
        if len(cursors) == 1:  # the common case: nobody to share with
            self._left.clear()
            filling.fill(next(iter(cursors.values())))
            return
        self._enrol(cursors)
        while self._left and not filling.full:
            tenant = next(iter(self._left))
            self._left[tenant] -= filling.fill(cursors[tenant], self._left[tenant])
            if cursors[tenant].job is None:
                del self._left[tenant]
            elif not filling.full:
                self._left[tenant] += self._quantum
                self._left.move_to_end(tenant)

    def _enrol(self, cursors: Mapping[str, Cursor]) -> None:
        for tenant in [tenant for tenant in self._left if tenant not in cursors]:
            del self._left[tenant]
        for tenant in cursors:
            self._left.setdefault(tenant, self._quantum)
