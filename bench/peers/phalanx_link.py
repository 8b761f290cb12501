"""One end of a link: the first member sends flat out to the second one, over SCTP, and nobody else.

`python -m peers.phalanx_link CONFIG NODE TASK` is started by `phalanx_cluster.py`.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

from phalanx.transport import Batch, Cluster, Receipt

from .flood import Flood, play
from .lines import Task
from .pair import RECEIVER, SENDER
from .phalanx_member import BULK_CHANNEL, batches_of, joined, live


class FifoLane:
    """Messages for one member, in the order in which they were sent."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def submit(self, payloads: list[bytes]) -> Receipt:
        """Waits for room."""
        return await self._cluster.send_many(RECEIVER, payloads, channel=BULK_CHANNEL)

    def batches(self) -> AsyncIterator[Batch]:
        """What has come."""
        return batches_of(self._cluster)


async def life(config: str, node: str, task: Task) -> None:
    """From joining to leaving."""
    async with joined(config, node, task) as cluster:
        receives = cluster.node_id == RECEIVER
        hears = (SENDER,) if receives else ()
        await play(Flood(FifoLane(cluster), cluster.node_id, task, silent=receives, hears=hears))


if __name__ == "__main__":
    sys.exit(live(life))
