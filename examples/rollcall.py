"""Every node says hello; after a barrier each knows that it has heard everybody.

    python examples/rollcall.py                                   three processes on this machine
    python examples/rollcall.py examples/cluster.toml alpha       one node, on each host another

A barrier is a cut through the traffic: what anybody sent before arriving at it is in everybody's
queue when it releases.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from phalanx.barrier import Barriers
from phalanx.transport import Cluster, Message

LOOPBACK = Path(__file__).with_name("loopback.toml")


async def roll_call(config: str, name: str) -> None:
    """One node, from joining to leaving."""
    async with Cluster.join(config, node=name, timeout=30) as cluster:
        barriers = Barriers(cluster)
        everybody = len(cluster.config.nodes)
        # The first view may be a majority of the nodes; this waits for the rest of them.
        await barriers.wait("all are here", parties=everybody, timeout=30)

        await cluster.multicast(f"hello from {cluster.name}".encode())
        await barriers.wait("all have spoken", parties=everybody, timeout=10)

        heard = [event for event in cluster.take_ready() if isinstance(event, Message)]
        assert len(heard) == everybody, "the barrier's promise"
        lines = [f"{name} heard {cluster.name_of(m.sender)}: {m.payload.decode()}\n" for m in heard]
        sys.stdout.write("".join(lines))  # in one piece: three processes share this terminal
        # Nobody leaves before all have heard.
        await barriers.wait("all have heard", parties=everybody, timeout=10)


def main() -> int:
    """Run one node, or without a name one process for each node of a file."""
    match sys.argv[1:]:
        case [config, name]:
            asyncio.run(roll_call(config, name))
            return 0
        case []:
            config = str(LOOPBACK)
        case [config]:
            pass
        case _:
            sys.exit(__doc__)
    nodes = ("alpha", "beta", "gamma")
    command = [sys.executable, __file__, config]
    children = [subprocess.Popen([*command, name]) for name in nodes]
    return max(child.wait() for child in children)


if __name__ == "__main__":
    sys.exit(main())
