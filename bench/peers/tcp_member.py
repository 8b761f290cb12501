"""One end of a TCP connection under asyncio, each message behind its length (4 bytes).

`python -m peers.tcp_member ADDRESS PORT NODE TASK` is started by `tcp.py`. The first member sends:
what is submitted together is written together.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import msgspec

from .flood import Flood, play
from .lines import Task
from .pair import SENDER

_LENGTH = struct.Struct("<I")
_READ_BYTES = 256 << 10
_CONNECT_S = 20.0
_TRY_EVERY_S = 0.05


class Messages(NamedTuple):
    """What has come at once."""

    sender: int
    payloads: Sequence[bytes]


class Outgoing:
    """The sender's end, to which nothing comes."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def submit(self, payloads: list[bytes]) -> None:
        """Waits for room."""
        pack = _LENGTH.pack
        self._writer.write(b"".join([part for p in payloads for part in (pack(len(p)), p)]))
        await self._writer.drain()

    async def batches(self) -> AsyncIterator[Messages]:
        """None."""
        for nothing in ():
            yield nothing


class Incoming:
    """The receiver's end."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def submit(self, payloads: list[bytes]) -> None:
        """It sends nothing."""
        raise AssertionError(f"{len(payloads)} messages from the receiver")

    async def batches(self) -> AsyncIterator[Messages]:
        """Whole messages, as many as have come."""
        rest = b""
        while data := await self._reader.read(_READ_BYTES):
            rest += data
            at, end, payloads = 0, len(rest), list[bytes]()
            while at + 4 <= end:
                (size,) = _LENGTH.unpack_from(rest, at)
                if at + 4 + size > end:
                    break
                payloads.append(rest[at + 4 : at + 4 + size])
                at += 4 + size
            rest = rest[at:]
            if payloads:
                yield Messages(SENDER, payloads)


async def connect(address: str, port: int) -> asyncio.StreamWriter:
    """When the other end listens: both are started at once.

    Raises:
        TimeoutError: it does not in time.
    """
    async with asyncio.timeout(_CONNECT_S):
        while True:
            try:
                return (await asyncio.open_connection(address, port))[1]
            except ConnectionRefusedError:
                await asyncio.sleep(_TRY_EVERY_S)  # TCP tells nobody when somebody listens


async def main(address: str, port: int, node: int, task: Task) -> None:
    """From connecting to the end."""
    if node == SENDER:
        writer = await connect(address, port)
        await play(Flood(Outgoing(writer), node, task, hears=()))
        writer.close()
        return
    accepted: asyncio.Future[asyncio.StreamReader] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(
        lambda reader, _: accepted.set_result(reader), address, port, limit=_READ_BYTES
    )
    async with server:
        incoming = Incoming(await asyncio.wait_for(accepted, _CONNECT_S))
        await play(Flood(incoming, node, task, silent=True, hears=(SENDER,)))


if __name__ == "__main__":
    asyncio.run(
        main(
            sys.argv[1],
            int(sys.argv[2]),
            int(sys.argv[3]),
            msgspec.json.decode(sys.argv[4], type=Task),
        )
    )
