"""One end of a link: the first member sends flat out to the second one, and to nobody else.

`python -m peers.phalanx_link CONFIG NODE TASK` is started by `phalanx_cluster.py`.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Literal

from phalanx.transport import Batch, Cluster, Receipt

from .flood import Flood, play
from .lines import Task
from .pair import RECEIVER, SENDER
from .phalanx_member import BULK_CHANNEL, batches_of, joined, live


class Directed:
    """Messages for one member, in the order in which they were sent."""

    def __init__(self, cluster: Cluster, lane: Literal["fifo", "bulk"]) -> None:
        """Those of the `fifo` lane go over SCTP, those of `bulk` as datagrams."""
        self._cluster = cluster
        self._lane: Literal["fifo", "bulk"] = lane

    async def submit(self, payloads: list[bytes]) -> Receipt:
        """Waits for room."""
        return await self._cluster.send_many(
            RECEIVER, payloads, channel=BULK_CHANNEL, lane=self._lane
        )

    def batches(self) -> AsyncIterator[Batch]:
        """What has come."""
        return batches_of(self._cluster)


async def life(config: str, node: str, task: Task) -> None:
    """From joining to leaving."""
    async with joined(config, node, task) as cluster:
        receives = cluster.node_id == RECEIVER
        hears = (SENDER,) if receives else ()
        lane = Directed(cluster, "bulk" if task.kind == "bulk link" else "fifo")
        await play(Flood(lane, cluster.node_id, task, silent=receives, hears=hears))


if __name__ == "__main__":
    sys.exit(live(life))
