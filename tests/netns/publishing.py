"""What a worker does on ordered channels: it opens them, publishes, and reads all of them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable

from phalanx.barrier.testing.channel_recorder import RecordedChannel
from phalanx.transport.errors import PhalanxError
from phalanx.transport.events import Position
from phalanx.transport.testing.recorder import Recorder

from .reports import Answer, Publish, PublishOn, ReadTo

_BEGINNING = Position(0, 0, 0)


class OpenChannel:
    """A channel of one worker, and the task that reads it. Its state is how much was read."""

    def __init__(self, recorder: Recorder, name: str) -> None:
        self._recorder = recorder
        self._numbers = itertools.count(1)
        self._entries = 0
        self._waiting: list[tuple[Position, asyncio.Future[None]]] = []
        self.channel = RecordedChannel(
            recorder, name, on_state_request=self._state, on_state=self._take
        )
        self._reading = asyncio.ensure_future(self._read())

    def _state(self) -> bytes:
        return self._entries.to_bytes(8, "big")

    def _take(self, state: bytes) -> None:
        self._entries = int.from_bytes(state, "big")

    async def _read(self) -> None:
        async for entry in self.channel:
            self._entries += 1
            reached = [item for item in self._waiting if item[0] <= entry.position]
            for item in reached:
                self._waiting.remove(item)
                item[1].set_result(None)

    async def publish(self, order: Publish, answer: Answer) -> None:
        """One entry; the answer says where it is, and how much is read here up to now."""
        position = await self._publish(safe=order.safe, timeout_s=order.timeout_s)
        answer.position = (position.era, position.k, position.index)
        answer.sent = self._entries

    async def _publish(self, *, safe: bool, timeout_s: float | None = None) -> Position:
        cluster = self._recorder.cluster
        words = f"{cluster.node_id}.{cluster.incarnation}.{next(self._numbers)}"
        return await self.channel.publish(
            f"{words} on {self.channel.name}".encode(), safe=safe, timeout=timeout_s
        )

    async def publish_on(self, order: PublishOn, refused: Callable[[PhalanxError], None]) -> None:
        """One entry after another, every other one safe, until it is cancelled."""
        for number in itertools.count():
            due_s = time.monotonic() + 1 / order.rate
            try:
                await self._publish(safe=bool(number % 2))
            except PhalanxError as error:
                refused(error)
            # It is the rate that is asked for, and nothing that is waited for.
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    async def read_to(self, order: ReadTo, answer: Answer) -> None:
        """Return when everything up to a position is read; the answer says how much that was."""
        wanted = Position(*order.position)
        if (self.channel.position or _BEGINNING) < wanted:
            reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((wanted, reached))
            await reached
        answer.sent = self._entries

    async def close(self) -> None:
        """Read no more."""
        self.channel.close()
        await self._reading
