"""Which loopback port can a server have, and how is it kept free until the server takes it?"""

from __future__ import annotations

import random
import socket
import sys

HOST = "127.0.0.1"
# Below the range from which systems take ports for outgoing connections, above the ports that need root.
CANDIDATES = range(10_240, 32_768)


class Port:
    """A free port, held for a server until `close`.

    Linux lets a second socket bind and listen on a port that a first one has bound without listening, if both say
    SO_REUSEADDR. Kafka, Redis and asyncio's servers do, so there the port is held for the server's whole life, restarts
    included, and nobody else can be given it. Elsewhere it is free between `release` and the server's own bind.
    """

    def __init__(self, candidates: range = CANDIDATES) -> None:
        self._socket = socket.socket()
        for number in random.sample(candidates, len(candidates)):
            try:
                self._socket.bind((HOST, number))
            except OSError:  # somebody has it
                continue
            # Only now: with it, bind would have accepted a port that another stack holds.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.number = number
            return
        self._socket.close()
        raise OSError(f"no free port on {HOST} between {candidates.start} and {candidates.stop}")

    def __str__(self) -> str:
        return f"{HOST}:{self.number}"

    def release(self) -> None:
        """Called just before the server binds."""
        if sys.platform != "linux":
            self.close()

    def close(self) -> None:
        self._socket.close()
