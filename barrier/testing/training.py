"""The training run of a build that is guided by a profile: small clusters at work on loopback.

setup.py starts `python -m phalanx.barrier.testing.training` with code that counts how often it
runs. Members, a process each, do what is done often in a cluster that is well: they meet at a
barrier back to back, publish one message at a time, and publish flat out. What runs seldom is to
stay out of the way of that, so nothing goes wrong here and nobody comes or goes meanwhile.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from phalanx.barrier import Barriers, OrderedChannel
from phalanx.transport import Cluster, PhalanxError
from phalanx.transport.testing.loopback import cluster_file

SIZES = (2, 4, 8)
"""Of the clusters, one after the other; barriers of up to three have another schedule."""
ROUNDS = 2000
TRIPS = 2000
FLOOD_CALLS, CALL_MESSAGES, MESSAGE_BYTES = 100, 512, 64
PATIENCE = {"suspect_ms": 5000, "lease_ms": 8000}
"""Instrumented code on a busy machine is slow, and nobody is to be taken for dead."""
MODULE = "phalanx.barrier.testing.training"
STEP_S = 120.0
"""So long each step may take, ..."""
SIZE_S = 600.0
"""... and all of one cluster."""


async def member(config: str, name: str, shorter: int = 1) -> None:
    """Work as one node until all is done; `shorter` is by how much less than usually.

    Raises:
        PhalanxError: a step did not come to its end.
    """
    async with Cluster.join(config, node=name, timeout=STEP_S) as cluster:
        nodes = [node.id for node in cluster.config.nodes]
        barriers = Barriers(cluster)
        channel = OrderedChannel(cluster, "training")
        await channel.opened(timeout=STEP_S)
        await barriers.wait("here", parties=nodes, timeout=STEP_S)
        for _ in range(ROUNDS // shorter):
            await barriers.wait("round", timeout=STEP_S)

        trips, calls = TRIPS // shorter, FLOOD_CALLS // shorter
        due = trips + calls * CALL_MESSAGES * len(nodes)
        reading = asyncio.ensure_future(_read(channel, due))
        message = bytes(MESSAGE_BYTES)
        if cluster.node_id == min(nodes):
            for _ in range(trips):
                await channel.publish(message)
        await barriers.wait("published", timeout=STEP_S)
        for _ in range(calls):
            await channel.submit([message] * CALL_MESSAGES)
        async with asyncio.timeout(STEP_S):
            await reading
        await barriers.wait("over", timeout=STEP_S)


async def _read(channel: OrderedChannel, due: int) -> None:
    async for entries in channel.batches():
        due -= len(entries.payloads)
        if not due:
            return


def train(size: int, shorter: int = 1) -> None:
    """Let one cluster work.

    Raises:
        subprocess.SubprocessError: a member has failed, or all took too long.
    """
    names = [f"node-{number}" for number in range(1, size + 1)]
    with tempfile.TemporaryDirectory(prefix="phalanx-training-") as folder:
        config = cluster_file(Path(folder, "cluster.toml"), names, timing=PATIENCE)
        start = [sys.executable, "-P", "-m", MODULE, str(config)]
        members = [subprocess.Popen([*start, name, str(shorter)]) for name in names]
        try:
            for process in members:
                if process.wait(SIZE_S):
                    raise subprocess.CalledProcessError(process.returncode, process.args)
        finally:
            for process in members:
                process.kill()
                process.wait()


def main(*arguments: str) -> int:
    """Train, or be one member: CONFIG NODE SHORTER. Returns the exit status."""
    try:
        if arguments:
            config, name, shorter = arguments
            asyncio.run(member(config, name, int(shorter)))
        else:
            for size in SIZES:
                train(size)
    except (PhalanxError, TimeoutError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"training run: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
