"""Sockets of beacons: all on a rail hear them; bounded, and never held by a forked child."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

from phalanx.transport.drivers.base import Group
from phalanx.transport.drivers.beacon_sockets import POLL_MAX, BeaconSockets, Heard
from phalanx.transport.errors import DriverUnavailable, UsageError

from .test_udp_datagrams import free_port

HERE = Group("239.192.77.3", free_port(), looped=True)
WAIT_S = 5.0


def made(address: str = "127.0.0.1", group: Group = HERE) -> BeaconSockets:
    """Those of a process on loopback."""
    return BeaconSockets({"a": address}, {"a": group})


@pytest.fixture
def two() -> Iterator[tuple[BeaconSockets, BeaconSockets]]:
    """Of two processes on one machine."""
    both = made(), made("127.0.0.2")
    for sockets in both:
        sockets.open()
    yield both
    for sockets in both:
        sockets.close()


def heard(sockets: BeaconSockets) -> list[Heard]:
    """What has come, which is waited for."""
    assert select.select([sockets.fileno()], [], [], WAIT_S)[0], "nothing has come"
    return sockets.poll()


def test_what_one_says_all_hear_and_from_where(two: tuple[BeaconSockets, BeaconSockets]) -> None:
    """Itself included, where several nodes share a machine."""
    one, other = two
    other.send(b"here")
    for sockets in (one, other):
        assert heard(sockets) == [Heard("a", "127.0.0.2", b"here")]
        assert sockets.poll() == []
    assert one.stats() == {}


def test_a_flood_is_read_in_portions(two: tuple[BeaconSockets, BeaconSockets]) -> None:
    """The rest stays there, and readable."""
    one, other = two
    for _ in range(POLL_MAX + 10):
        other.send(b"x" * 100)
    assert len(heard(one)) == POLL_MAX
    assert len(heard(one)) == 10


def test_without_any_rail_it_is_said_what_to_do() -> None:
    """An address that this machine has not, and a group that is none."""
    for sockets, why in (
        (made("192.0.2.1"), "Cannot assign requested address"),
        (made(group=HERE._replace(address="127.0.0.1")), "Invalid argument"),
        (BeaconSockets({}, {}), "there is none"),
    ):
        with pytest.raises(DriverUnavailable, match=f"{why}.*discovery.multicast = false"):
            sockets.open()
        with pytest.raises(UsageError):
            sockets.fileno()


def test_they_are_opened_once_and_can_be_opened_again() -> None:
    """And closed as often as one likes."""
    sockets, before = made(), len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        sockets.open()
        with pytest.raises(UsageError, match="open already"):
            sockets.open()
        sockets.close()
        sockets.close()
    assert len(os.listdir("/proc/self/fd")) == before, "nothing is left open"


def test_a_forked_child_holds_nothing(two: tuple[BeaconSockets, BeaconSockets]) -> None:
    """Else it would stay in the group, and read what is for its parent."""
    one, other = two
    open_before = set(os.listdir("/proc/self/fd"))
    child = os.fork()
    if not child:
        held = len(set(os.listdir("/proc/self/fd")) & open_before)
        os._exit(0 if held <= len(open_before) - 6 else 1)
    assert os.waitpid(child, 0)[1] == 0
    other.send(b"still here")
    assert heard(one) == [Heard("a", "127.0.0.2", b"still here")]
