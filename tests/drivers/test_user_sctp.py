"""What is particular to the driver on usrsctp: address families, one stack per process, fork."""

from __future__ import annotations

import ipaddress
import os
import select
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from phalanx.transport.config import PROFILES
from phalanx.transport.drivers.base import (
    Input,
    LinkLost,
    LinkUp,
    LocalEndpoint,
    LossReason,
    PathState,
    PeerEndpoint,
    Received,
    Stream,
)
from phalanx.transport.drivers.user_sctp import UserSctp
from phalanx.transport.errors import PortTaken, UsageError

from .bench import Host, join, wait, wait_frames
from .netns_bench import NetnsBench
from .rail_cases import settled, told
from .test_conformance import USER_SCTP

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
REDIALS_MAX = 5
TUNING = PROFILES["lan"].sctp


def free_udp_port() -> int:
    """A UDP port that nobody has now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(autouse=True)
def usrsctp(require: Callable[..., None]) -> None:
    """The extension may not be built."""
    require("usrsctp")


@pytest.fixture
def driver() -> Iterator[UserSctp]:
    """An open driver on loopback, in this process."""
    local = LocalEndpoint(
        node=1,
        addresses={"a": "127.0.0.1"},
        networks={"a": LOOPBACK},
        port=5405,
        udp_port=free_udp_port(),
    )
    driver = UserSctp(local, TUNING)
    driver.open()
    yield driver
    driver.close()


def local_of(driver: UserSctp) -> LocalEndpoint:
    """What the driver was made with."""
    return driver._local  # pyright: ignore[reportPrivateUsage] - the fixture has drawn its port


def myself(driver: UserSctp) -> PeerEndpoint:
    """Where the driver itself listens."""
    local = local_of(driver)
    return PeerEndpoint(node=1, addresses=local.addresses, port=local.port, udp_port=local.udp_port)


def poll_until(driver: UserSctp, kind: type[Input], count: int = 1) -> list[Input]:
    """Poll until that many inputs of a kind have come."""
    found: list[Input] = []
    deadline = time.monotonic() + 5
    while len(found) < count:
        assert select.select([driver.fileno()], [], [], max(0.0, deadline - time.monotonic()))[0]
        found += [one for one in driver.poll() if isinstance(one, kind)]
    return found


@pytest.mark.netns
@pytest.mark.parametrize("family", [6, 46])
def test_rails_may_be_ipv6_or_one_of_each_family(family: int) -> None:
    """Both rails carry frames, and each takes over from the other."""
    with NetnsBench(USER_SCTP, hosts=2, family=family) as bench:
        one, two = bench.start(1), bench.start(2)
        link, at_two = join(one, two)
        settled(one, link)
        settled(two, at_two)
        for rail in ("a", "b"):
            assert one.driver.transmit(link, Stream.CONTROL, rail.encode(), rail=rail)
        assert sorted(wait_frames(two, at_two, 2)) == [b"a", b"b"]
        bench.cut(2, "a")
        assert one.driver.transmit(link, Stream.FIFO, b"x" * 100_000)
        assert wait_frames(two, at_two, 3)[2] == b"x" * 100_000
        told(one, link, "a", PathState.DOWN)


@pytest.mark.netns
def test_control_frames_and_probes_pass_a_link_that_is_full_of_data() -> None:
    """A reserve is kept for them: else a busy peer would look dead, and a view change would
    wait behind megabytes. Each is accepted, and arrives while the stream still runs."""
    with NetnsBench(USER_SCTP, hosts=2) as bench:
        one, two = bench.start(1), bench.start(2)
        link, at_two = join(one, two)
        settled(one, link)
        count, asked = 2000, 0
        one.stream(link, count=count, every_ns=0, size=60_000)
        while one.sent() < count:
            asked += 1
            assert one.driver.transmit(link, Stream.CONTROL, b"%d" % asked)
            assert one.driver.transmit(link, Stream.REPAIR, b"probe", rail="b")
            two.collect(0.005)
        assert asked > 10
        assert one.driver.stats()["frames_refused"] > 0, "the link was never full"
        assert one.driver.stats()["probes_dropped"] == 0
        wait(two, lambda log: len(log.frames(at_two, Stream.FIFO)) == count)
        expected = [b"%d" % number for number in range(1, asked + 1)]
        wait(two, lambda log: log.frames(at_two, Stream.CONTROL) == expected)
        overtaken = two.log.frames(at_two).index(expected[-1])
        assert overtaken < len(two.log.frames(at_two)) - 1, "it came behind all the data"


@pytest.mark.netns
def test_restarts_of_a_peer_leave_nothing_behind() -> None:
    """The survivor's memory and descriptors stay flat; each time the link comes back."""
    with NetnsBench(USER_SCTP, hosts=2) as bench:
        one = bench.start(1)
        sizes: list[int] = []
        for number in range(8):
            two = bench.start(2)
            back = _dial_from_any_port(two, one, number + 1)
            assert two.driver.transmit(back, Stream.FIFO, b"%d" % number)
            wait(one, lambda log, n=number: len(log.of(Received)) == n + 1)
            two.kill()
            sizes.append(one.memory_bytes())
        bench.start(2).driver.connect(one.peer)
        wait(one, lambda log: len(log.of(LinkLost)) == 8)
        assert sizes[-1] - sizes[1] < 1 << 20


def _dial_from_any_port(dialler: Host, listener: Host, links: int) -> int:
    """The dialler's link once it is the listener's so many-th.

    A port that an earlier process dialled from, which is drawn now and then, means a restart of
    that association: no new link, and both are told to dial again.
    """

    def restarts() -> int:
        return sum(one.reason is LossReason.RESTARTED for one in listener.log.of(LinkLost))

    def dial(before: int) -> int | None:
        link = dialler.driver.connect(listener.peer)
        wait(dialler, lambda log: link in [up.link for up in log.of(LinkUp)])
        wait(listener, lambda log: len(log.of(LinkUp)) == links or restarts() > before)
        if restarts() == before:
            return link
        wait(dialler, lambda log: link in [lost.link for lost in log.of(LinkLost)])
        return None

    for _ in range(REDIALS_MAX):
        link = dial(restarts())
        if link is not None:
            return link
    raise AssertionError("every port that was drawn had been dialled from before")


def test_nodes_may_share_an_address_and_differ_in_their_udp_port() -> None:
    """Three terminals on one machine: every pair connects, and nobody is taken for another."""
    hosts = [_loopback_host(number) for number in (1, 2, 3)]
    try:
        for dialler in range(3):
            for listener in range(dialler + 1, 3):
                link, there = join(hosts[dialler], hosts[listener], dialler)
                assert hosts[dialler].driver.transmit(link, Stream.FIFO, b"hello")
                assert wait_frames(hosts[listener], there, 1) == [b"hello"]
        assert not any(host.log.of(LinkLost) for host in hosts)
    finally:
        for host in hosts:
            host.kill()


def _loopback_host(number: int) -> Host:
    return NetnsBench.local_host(
        USER_SCTP,
        LocalEndpoint(
            node=number,
            addresses={"a": "127.0.0.1"},
            networks={"a": LOOPBACK},
            port=5405,
            udp_port=free_udp_port(),
        ),
    )


def test_a_second_driver_in_one_process_is_refused(driver: UserSctp) -> None:
    """usrsctp is one stack per process; the message says what to do."""
    local = local_of(driver)
    with pytest.raises(UsageError, match="one stack per process"):
        UserSctp(local, TUNING).open()
    link = driver.connect(myself(driver))
    assert link in [one.link for one in poll_until(driver, LinkUp, 2)]


def test_a_udp_port_bound_to_the_wildcard_address_counts_as_taken() -> None:
    """The library would be silent about it and deaf."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("0.0.0.0", 0))
        local = LocalEndpoint(
            node=1,
            addresses={"a": "127.0.0.1"},
            networks={"a": LOOPBACK},
            port=5405,
            udp_port=int(holder.getsockname()[1]),
        )
        with pytest.raises(PortTaken, match=str(local.udp_port)):
            UserSctp(local, TUNING).open()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_refuses_to_work_and_holds_no_port(driver: UserSctp) -> None:
    """The library's threads are not in the child; and a child that lives on must not keep the
    port of a parent that has to start again."""
    port = myself(driver).udp_port
    go_read, go_write = os.pipe()
    child = os.fork()
    if child == 0:
        outcome = 1
        try:
            driver.poll()
        except UsageError:
            outcome = 0
        os.read(go_read, 1)
        os._exit(outcome)
    driver.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("0.0.0.0", port))
    os.write(go_write, b".")
    assert os.waitpid(child, 0)[1] == 0
    os.close(go_read)
    os.close(go_write)


def test_opening_and_closing_again_and_again_leaks_nothing(driver: UserSctp) -> None:
    """Descriptors and threads; also on another port, as a node that was reconfigured."""
    driver.close()
    before = (len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")))
    local = local_of(driver)
    for _ in range(5):
        other = UserSctp(
            LocalEndpoint(
                node=1,
                addresses=local.addresses,
                networks=local.networks,
                port=5406,
                udp_port=free_udp_port(),
            ),
            TUNING,
        )
        other.open()
        other.connect(myself(other))
        poll_until(other, LinkUp, 2)
        other.close()
    assert (len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))) == before


def test_many_frames_in_one_call_keep_their_order_and_bound(driver: UserSctp) -> None:
    """`transmit_many` is `transmit` for several: the count says how many were taken."""
    link = driver.connect(myself(driver))
    poll_until(driver, LinkUp, 2)
    frames = [b"%05d" % number for number in range(5000)]
    taken = driver.transmit_many(link, Stream.FIFO, frames)
    assert 0 < taken <= len(frames)
    got = [one.frame for one in poll_until(driver, Received, taken) if isinstance(one, Received)]
    assert got == frames[:taken]
    with pytest.raises(UsageError):
        driver.transmit_many(link, Stream.FIFO, [b"x", b""])
    assert driver.transmit_many(link, Stream.FIFO, []) == 0


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_every_profile_opens(name: str) -> None:
    """Each profile's values must be ones that the library takes."""
    local = LocalEndpoint(
        node=1,
        addresses={"a": "127.0.0.1"},
        networks={"a": LOOPBACK},
        port=5405,
        udp_port=free_udp_port(),
    )
    driver = UserSctp(local, PROFILES[name].sctp)
    driver.open()
    try:
        driver.connect(myself(driver))
        poll_until(driver, LinkUp, 2)
    finally:
        driver.close()
