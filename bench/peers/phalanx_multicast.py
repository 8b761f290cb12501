"""One member of a multicast to all others: the first sends flat out, the others receive.

`python -m peers.phalanx_multicast CONFIG NODE TASK` is started by `phalanx_cluster.py`.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

from phalanx.transport import Batch, Cluster, Receipt

from .flood import Flood, play
from .lines import Task
from .phalanx_member import BULK_CHANNEL, batches_of, joined, live

SENDER = 1


class BulkLane:
    """Multicasts in the order of their sender, which everybody acknowledges."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def submit(self, payloads: list[bytes]) -> Receipt:
        """Waits for room."""
        return await self._cluster.multicast_many(payloads, channel=BULK_CHANNEL, lane="bulk")

    def batches(self) -> AsyncIterator[Batch]:
        """What has come."""
        return batches_of(self._cluster)


async def life(config: str, node: str, task: Task) -> None:
    """From joining to leaving."""
    async with joined(config, node, task) as cluster:
        silent = cluster.node_id != SENDER
        await play(Flood(BulkLane(cluster), cluster.node_id, task, silent=silent))


if __name__ == "__main__":
    sys.exit(live(life))
