"""Which texts is a command given: as arguments, or as lines of standard input?"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from io import BufferedReader, BytesIO

import click

READ_BYTES = 65_536
MAX_LINE_BYTES = 16 * 1024 * 1024
CHUNKS_AHEAD = 4

Chunk = list[str] | click.UsageError | None


async def chunks(arguments: Sequence[str]) -> AsyncIterator[list[str]]:
    """The texts, as many at a time as are there: a slow pipe gives each line when it comes, a fast one many.

    At most `CHUNKS_AHEAD` chunks are read before they are wanted. Raises UsageError for what is no UTF-8.
    """
    if arguments:
        yield list(arguments)
        return
    stream = _standard_input()
    waiting: asyncio.Queue[Chunk] = asyncio.Queue(CHUNKS_AHEAD)
    loop = asyncio.get_running_loop()
    # a thread of its own, which may be left blocked in its read: an executor's would be waited for at the end
    threading.Thread(target=_read, args=(stream, waiting, loop), daemon=True, name="embedmq-input").start()
    while (chunk := await waiting.get()) is not None:
        if isinstance(chunk, click.UsageError):
            raise chunk
        yield chunk


def all_texts(arguments: Sequence[str]) -> list[str]:
    """The texts, all at once."""
    if arguments:
        return list(arguments)
    lines, rest = _split(b"", _standard_input().read(), 0)
    return lines + _last(rest, len(lines))


def _standard_input() -> BufferedReader | BytesIO:
    stream = sys.stdin.buffer
    if stream.isatty():
        raise click.UsageError("no texts: pass them as arguments, or pipe them in, one a line")
    if not isinstance(stream, (BufferedReader, BytesIO)):
        raise click.UsageError("standard input cannot be read")
    return stream


def _read(stream: BufferedReader | BytesIO, waiting: asyncio.Queue[Chunk], loop: asyncio.AbstractEventLoop) -> None:
    """In a thread: lines as they come, then None."""

    def give(chunk: Chunk) -> None:
        asyncio.run_coroutine_threadsafe(waiting.put(chunk), loop).result()

    rest, count = b"", 0
    try:
        while data := stream.read1(READ_BYTES):
            lines, rest = _split(rest, data, count)
            count += len(lines)
            if lines:
                give(lines)
        if rest:
            give(_last(rest, count))
        give(None)
    except click.UsageError as error:
        give(error)
    except RuntimeError:  # the loop has ended: nobody waits any more
        sys.exit()


def _split(rest: bytes, data: bytes, count: int) -> tuple[list[str], bytes]:
    """Whole lines, and the beginning of the next."""
    *lines, rest = (rest + data).split(b"\n")
    if len(rest) > MAX_LINE_BYTES:
        raise click.UsageError(f"line {count + len(lines) + 1} is longer than {MAX_LINE_BYTES} bytes: one text a line")
    return [_decode(line, count + i + 1) for i, line in enumerate(lines)], rest


def _last(rest: bytes, count: int) -> list[str]:
    return [_decode(rest, count + 1)] if rest else []


def _decode(line: bytes, number: int) -> str:
    try:
        return line.removesuffix(b"\r").decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(
            f"line {number} is no UTF-8, at byte {error.start}: convert it, for example with iconv"
        ) from None
