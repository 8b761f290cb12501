"""The kernel's SCTP under the conformance suite of all drivers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..drivers.bench import Bench
from ..drivers.frame_cases import FrameCases
from ..drivers.link_cases import LinkCases
from ..drivers.netns_bench import NetnsBench
from ..drivers.rail_cases import RailCases

KERNEL_SCTP = "phalanx.transport.drivers.kernel_sctp:KernelSctp"


@pytest.mark.kernel
class TestKernelSctp(LinkCases, FrameCases, RailCases):
    """One process with one driver on each host."""

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls) -> Iterator[Bench]:
        """Three hosts."""
        with NetnsBench(KERNEL_SCTP) as bench:
            yield bench

    @pytest.fixture(autouse=True)
    def clean(self, bench: Bench) -> Iterator[None]:
        """Each case begins without hosts and with whole rails."""
        yield
        bench.reset()
