"""Datagrams wherever they run, under the one conformance suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from phalanx.transport.drivers.simulator import NetworkOptions

from .datagram_bench import (
    Bench,
    MemoryDatagramBench,
    NetnsDatagrams,
    SimulatedDatagramBench,
)
from .datagram_cases import DatagramCases
from .netns_bench import NetnsBench


@pytest.fixture(autouse=True)
def clean(bench: Bench) -> Iterator[None]:
    """Each case begins without hosts and with whole rails."""
    yield
    bench.reset()


@pytest.mark.netns
@pytest.mark.parametrize("bench", [4, 46], indirect=True, scope="class")
class TestUdpDatagrams(DatagramCases):
    """UDP between hosts, on IPv4, and on IPv6 on rail b."""

    @pytest.fixture(scope="class")
    @classmethod
    def bench(
        cls, request: pytest.FixtureRequest, require: Callable[..., None]
    ) -> Iterator[NetnsDatagrams]:
        """Three hosts."""
        require("netns")
        with NetnsBench("none:", family=request.param) as namespaces:
            yield NetnsDatagrams(namespaces)


class TestMemoryDatagrams(DatagramCases):
    """Within one process, in real time."""

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls) -> MemoryDatagramBench:
        """Without trouble."""
        return MemoryDatagramBench()


class TestSimulatedDatagrams(DatagramCases):
    """In virtual time."""

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls) -> SimulatedDatagramBench:
        """Without jitter, so that they arrive in order."""
        return SimulatedDatagramBench(NetworkOptions(jitter_ns=0))
