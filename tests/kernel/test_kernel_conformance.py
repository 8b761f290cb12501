"""The kernel's SCTP under the conformance suite of all drivers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from phalanx.transport.drivers.base import Stream

from ..drivers.bench import Bench, join, wait_frames
from ..drivers.frame_cases import FrameCases
from ..drivers.link_cases import LinkCases
from ..drivers.rail_cases import RailCases, settled
from .forked_bench import KernelBench

pytestmark = pytest.mark.kernel


@pytest.fixture(autouse=True)
def clean(bench: Bench) -> Iterator[None]:
    """Each case begins without hosts and with whole rails."""
    yield
    bench.reset()


class TestKernelSctp(LinkCases, FrameCases, RailCases):
    """One process with one driver on each host, on IPv4."""

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls) -> Iterator[Bench]:
        """Three hosts."""
        with KernelBench() as bench:
            yield bench

    # Sixty thousand small frames and 64 MB of large ones take a minute in the guest, mostly for
    # looking at them; test_kernel_sctp.py fills and empties a link of the same driver.
    test_a_full_link_refuses_and_becomes_writable_again = None  # pyright: ignore[reportAssignmentType] - None leaves it out

    # Its bounds are for a machine, not for a guest; test_kernel_faults.py measures the gap.
    test_failover_is_quick = None  # pyright: ignore[reportAssignmentType] - None leaves it out


class TestKernelSctpOnBothFamilies:
    """Rail a on IPv4, rail b on IPv6."""

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls) -> Iterator[Bench]:
        """Three hosts."""
        with KernelBench(family=46) as bench:
            yield bench

    def test_one_association_holds_paths_of_both_families(self, bench: Bench) -> None:
        """A site may renumber one rail at a time."""
        one, two = bench.start(1), bench.start(2)
        link, at_two = join(one, two)
        settled(one, link)
        for rail in ("a", "b"):
            one.driver.set_primary(link, rail)
            assert one.driver.transmit(link, Stream.CONTROL, b"probe", rail=rail)
            assert one.driver.transmit(link, Stream.FIFO, bytes(100_000))
        frames = wait_frames(two, at_two, 4)
        assert sorted(map(len, frames)) == [5, 5, 100_000, 100_000]
