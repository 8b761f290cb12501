"""What the members of phalanx share: joining, and listening to whoever started them."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import msgspec

from phalanx.transport import Batch, Cluster, PhalanxError, ViewInstalled

from .lines import Ready, Task, hear, say, until_ns

JOIN_S = 30.0
BULK_CHANNEL = "load"


@asynccontextmanager
async def joined(config: str, node: str, task: Task) -> AsyncGenerator[Cluster, None]:
    """A member of a view of all nodes; it leaves in good order."""
    own = task.load_bytes_per_s or task.kind in ("bulk link", "link", "pace", "stream")
    deliver = (BULK_CHANNEL,) if own else ()
    async with Cluster.join(config, node=node, timeout=JOIN_S, deliver=deliver) as cluster:
        async with asyncio.timeout(JOIN_S):
            async for event in cluster:
                if isinstance(event, ViewInstalled) and len(event.view.members) == task.nodes:
                    break
        # What was imported lives for ever: the collector need not look at it again and again.
        gc.freeze()
        yield cluster


async def batches_of(cluster: Cluster) -> AsyncIterator[Batch]:
    """What is delivered, without the events between."""
    async for item in cluster.batches():
        if isinstance(item, Batch):
            yield item


async def begin() -> None:
    """Say that the group is complete; return when all are to begin."""
    say(Ready())
    await asyncio.sleep(until_ns(await told("go")))


async def told(order: str) -> list[str]:
    """The words behind an order; meanwhile the cluster goes on."""
    return await asyncio.to_thread(hear, order)


def stop(task: asyncio.Future[None]) -> None:
    """End a task that has run beside what was measured; one that has failed fails the run."""
    if task.done():
        task.result()
    task.cancel()


def live(life: Callable[[str, str, Task], Coroutine[None, None, None]]) -> int:
    """The process of a member: CONFIG NODE TASK are its arguments."""
    config, node, text = sys.argv[1:4]
    try:
        asyncio.run(life(config, node, msgspec.json.decode(text, type=Task)))
    except PhalanxError as error:
        sys.stderr.write(f"{node}: {error}\n")
        return 1
    return 0
