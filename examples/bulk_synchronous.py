"""A computation in steps: each node has a part of the data, and a barrier ends each step.

    python examples/bulk_synchronous.py     three processes on this machine

How heat spreads along a rod, one end of which is hot and the other cold. For a step a node needs
what the cells beside its part were before, so all bring their outermost cells to the barrier, and
get those of the others with the release: compute, exchange and meet are one call. Each brings
along how much its part has changed, so that all know at the same step that it is enough.
"""

from __future__ import annotations

import struct
import sys
import time

from phalanx.barrier import Barriers
from phalanx.transport import Cluster
from three import NAMES, Three, run

CELLS = 30
HOT, COLD = 100.0, 0.0
ENOUGH = 0.05
"""It ends when no cell changes by more than this in a step."""
SHADES = " .:-=+*#%@"
EDGES = struct.Struct("!ddd")
"""The first and the last cell of a part, and how much the part has changed."""


def diffuse(left: float, cells: list[float], right: float) -> tuple[list[float], float]:
    """One step: the cells after it, and the largest change."""
    before = [left, *cells, right]
    after = [
        here + (one - 2 * here + other) / 4
        for one, here, other in zip(before, before[1:], before[2:], strict=False)
    ]
    return after, max(abs(new - old) for new, old in zip(after, cells, strict=True))


def alone() -> tuple[list[float], int]:
    """The whole rod in one process: what it is like at the end, and after how many steps."""
    cells, steps, change = [COLD] * CELLS, 0, HOT
    while change > ENOUGH:
        cells, change = diffuse(HOT, cells, COLD)
        steps += 1
    return cells, steps


async def part(config: str, name: str) -> None:
    """Compute one part of the rod; the parts are in the order of the nodes."""
    async with Cluster.join(config, node=name) as cluster:
        barriers, nodes = Barriers(cluster), [node.id for node in cluster.config.nodes]
        rank, last = nodes.index(cluster.node_id), len(nodes) - 1
        cells, steps, change = [COLD] * (CELLS // len(nodes)), 0, HOT
        began = time.perf_counter()
        while True:
            mine = EDGES.pack(cells[0], cells[-1], change)
            # If one of them dies it is broken, for all: there is no result without its part.
            release = await barriers.wait("step", parties=nodes, payload=mine)
            edges = [EDGES.unpack(release.payloads[node]) for node in nodes]
            if all(theirs <= ENOUGH for _, _, theirs in edges):
                break
            left = edges[rank - 1][1] if rank > 0 else HOT
            right = edges[rank + 1][0] if rank < last else COLD
            cells, change = diffuse(left, cells, right)
            steps += 1
        took_us = (time.perf_counter() - began) / steps * 1e6
        print(f"has computed cells {rank * len(cells)} to {(rank + 1) * len(cells) - 1}")

        packed = struct.pack(f"!{len(cells)}d", *cells)
        release = await barriers.wait("result", parties=nodes, payload=packed)
        rod = [
            heat for node in nodes for (heat,) in struct.iter_unpack("!d", release.payloads[node])
        ]
        assert (rod, steps) == alone(), "it differs from what one process computes"
        if rank == 0:
            print(f"the rod after {steps} steps, {took_us:.0f} us each: {picture(rod)}")


def picture(rod: list[float]) -> str:
    """A character for each cell."""
    return "".join(SHADES[min(int(heat / HOT * len(SHADES)), len(SHADES) - 1)] for heat in rod)


def story(here: Three) -> None:
    """Three parts of one computation."""
    nodes = [here.start(name) for name in NAMES]
    assert [node.ends() for node in nodes] == [0, 0, 0], "a part has failed"


if __name__ == "__main__":
    sys.exit(run(part, story))
