"""A hundred restarts of one node of three on real rails: nothing is left behind."""

from __future__ import annotations

import pytest

from ..netns.harness import Fleet
from ..netns.restarts import restart_again_and_again

pytestmark = [pytest.mark.netns, pytest.mark.slow]

ROUNDS = 100
WARM = 20
"""Rounds after which every cache is full: from here on memory must be flat."""
GROWTH_BYTES_MAX = 1 << 20
CRASH_MS_MAX = 100


@pytest.mark.parametrize("host", ["charlie", "alpha"])
def test_a_hundred_restarts_leave_nothing_behind(fleet: Fleet, host: str) -> None:
    """Each time a view with all three; no stale message; descriptors and memory stay flat.

    Once it is a node that only accepts associations, once the proposer, which dials all others.
    """
    done = restart_again_and_again(fleet, host, ROUNDS)
    assert len(done.rejoin_ms) == ROUNDS
    for name, first in done.looks[0].items():
        warm, last = done.looks[WARM][name], done.looks[-1][name]
        growth = last.rss_bytes - warm.rss_bytes
        print(
            f"{name}: descriptors {first.descriptors} to {last.descriptors}, KiB of memory "
            f"{first.rss_bytes >> 10} to {warm.rss_bytes >> 10} to {last.rss_bytes >> 10}"
        )
        assert last.descriptors == first.descriptors, f"{name} keeps descriptors"
        assert growth <= GROWTH_BYTES_MAX, f"{name} has grown by {growth} bytes"
    crashes, returns = sorted(done.crash_ms), sorted(done.rejoin_ms)
    print(f"new view: median {crashes[len(crashes) // 2]:.1f}, slowest {crashes[-1]:.1f} ms")
    print(f"member again: median {returns[len(returns) // 2]:.0f}, slowest {returns[-1]:.0f} ms")
    assert crashes[-1] <= CRASH_MS_MAX
