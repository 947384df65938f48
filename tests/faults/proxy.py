"""What if the network between two programs is slow, cut in one direction, half open or gone? A TCP proxy that can."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Literal, Self

Way = Literal["up", "down"]
"""`up` is from the client to the server."""
WAYS: tuple[Way, Way] = ("up", "down")
CHUNK_BYTES = 65_536
AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER on, for no time: closing sends a reset instead of an end."""


class Proxy:
    """Passes bytes on between clients and one server, as far as the network of the moment lets them through.

    Bytes that meet a cut wait in front of it, as TCP's retransmissions would; the connections stay, half open. After
    `heal` they go on, unless `reset` has ended them.
    """

    def __init__(self, target: str = "") -> None:
        """`target`: the server's `host:port`; may be set later, and changed."""
        self.target = target
        self.latency_s = 0.0
        """Added to each chunk, in either direction."""
        self.bytes_per_s: float | None = None
        self.chunk_bytes = CHUNK_BYTES
        """Small ones slice messages, so that readers meet half of one."""
        self.refusing = False
        """New connections are reset."""
        self.connections = 0
        """How many were taken."""
        self._open = {way: asyncio.Event() for way in WAYS}
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._held = socket.socket()
        self._held.bind(("127.0.0.1", 0))
        self.heal()

    @property
    def address(self) -> str:
        """Where clients connect, `host:port`; fixed from the beginning."""
        host, port = self._held.getsockname()
        return f"{host}:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, sock=self._held)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self, *ways: Way) -> None:
        """Let nothing through, in one direction or both."""
        for way in ways or WAYS:
            self._open[way].clear()

    def heal(self) -> None:
        """Let everything through at full speed again."""
        self.refusing = False
        self.latency_s, self.bytes_per_s, self.chunk_bytes = 0.0, None, CHUNK_BYTES
        for event in self._open.values():
            event.set()

    def reset(self) -> None:
        """End all connections with a reset."""
        for writer in list(self._writers):
            with contextlib.suppress(OSError, AttributeError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        try:
            if not self.refusing:
                await self._join(reader, writer)
        except asyncio.CancelledError:
            pass  # asyncio's server would report it
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.target.rpartition(":")
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            return
        self._writers.add(far_writer)
        pumps = {
            asyncio.create_task(self._pump(reader, far_writer, "up")),
            asyncio.create_task(self._pump(far_reader, writer, "down")),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._writers.discard(far_writer)
            far_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(self.chunk_bytes):
                if self.latency_s:
                    await asyncio.sleep(self.latency_s)
                if self.bytes_per_s:
                    await asyncio.sleep(len(data) / self.bytes_per_s)
                await self._open[way].wait()
                writer.write(data)
                await writer.drain()
