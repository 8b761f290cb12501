"""Every driver under the one conformance suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from .bench import Bench
from .frame_cases import FrameCases
from .link_cases import LinkCases
from .netns_bench import NetnsBench
from .process_cases import ProcessCases
from .rail_cases import RailCases

USER_SCTP = "phalanx.transport.drivers.user_sctp:UserSctp"


@pytest.fixture(autouse=True)
def clean(bench: Bench) -> Iterator[None]:
    """Each case begins without hosts and with whole rails."""
    yield
    bench.reset()


@pytest.mark.netns
class TestUserSctp(LinkCases, FrameCases, RailCases, ProcessCases):
    """usrsctp over UDP encapsulation, on IPv4."""

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls, require: Callable[..., None]) -> Iterator[Bench]:
        """Three hosts."""
        require("netns", "usrsctp")
        with NetnsBench(USER_SCTP) as bench:
            yield bench
