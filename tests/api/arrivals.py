"""What the tests of barriers wait for before they go on."""

from __future__ import annotations

import asyncio

from phalanx.barrier import Barriers

GUARD_S = 10.0
PAUSE_S = 0.005
"""Between two looks: an arrival's place in the order is no event that could be awaited."""


async def two_arrived(barriers: Barriers, name: str) -> None:
    """Wait until two parties have their places in the order, as far as this node knows."""
    for _ in range(round(GUARD_S / PAUSE_S)):
        if len(barriers.explain(name).arrived) == 2:
            return
        await asyncio.sleep(PAUSE_S)
    raise AssertionError(str(barriers.explain(name)))
