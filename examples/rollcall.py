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
from phalanx.transport import Cluster, Message, PhalanxError
from phalanx.transport.config_file import load

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


def everybody_here(config: str) -> int:
    """One process for each node of a file; returns the highest of their exit statuses."""
    command = [sys.executable, __file__, config]
    children = [subprocess.Popen([*command, node.name]) for node in load(config).nodes]
    try:
        return max(child.wait() for child in children)
    except KeyboardInterrupt:
        for child in children:  # the same Ctrl-C has reached them; they are leaving
            child.wait()
        raise


def main() -> int:
    """Run one node, or without a name one process for each node of a file."""
    try:
        match sys.argv[1:]:
            case [config, name]:
                asyncio.run(roll_call(config, name))
                return 0
            case [] | [_]:
                return everybody_here(*sys.argv[1:] or [str(LOOPBACK)])
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except PhalanxError as error:  # one line that says what to do
        print(f"{' '.join(sys.argv)}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
