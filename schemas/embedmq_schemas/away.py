"""By which exceptions does a store say that it is away, apart from those of its own library?"""

from __future__ import annotations

from typing import Final

TRANSPORT_ERRORS: Final = (OSError, RuntimeError)
"""`OSError` from the socket. `RuntimeError` from uvloop, where a reset connection is written to all the same: it
says `unable to perform operation on <TCPTransport closed=True …>`, and no client library expects that."""
